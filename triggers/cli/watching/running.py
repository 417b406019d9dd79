"""What the commands of all kinds of sources share."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import click

from asyncstore import Asset, Store
from asyncstore.cli.failures import Misuse
from asyncstore.cli.running import open_store, run

from ...abc import BaseEventTrigger
from ...watcher import AssetWatcher
from ..running import log_to_stderr, run_watchers

__all__ = ["name_option", "watch_source"]

F = TypeVar("F", bound=Callable[..., object])


def name_option(default: str) -> Callable[[F], F]:
    """Give the option that tells two watchers of one source apart.

    :param default: the usual name.
    """
    return click.option("--name", default=default, show_default=True, help="Two watchers of one source need two names.")


def watch_source(
    context: click.Context, make: Callable[[Store], BaseEventTrigger], *, uri: str, name: str, shown: str
) -> None:
    """Watch one source until it is done or a signal comes, and write a line for every event.

    :param context: the context of the command.
    :param make: makes the trigger; what it raises as `ValueError` is told as wrong usage.
    :param uri: the URI of the asset, without any secret.
    :param name: the name of the watcher.
    :param shown: the source, as people know it, without any secret.
    :raises Misuse: the source or an option is refused.
    """

    async def main() -> None:
        async with open_store(context) as store:
            try:
                trigger = make(store)
            except ValueError as error:
                raise Misuse(str(error)) from error
            asset = Asset(uri=uri, watchers=[AssetWatcher(name, trigger)])
            await run_watchers(store, [asset], f"watching {shown}", alone=True)

    log_to_stderr(logging.WARNING)
    run(context, main)
