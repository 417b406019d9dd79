"""`asyncstore triggerer`."""

from __future__ import annotations

import logging

import click

from asyncstore.cli.failures import Misuse
from asyncstore.cli.running import open_store, run

from ..discovery import discover
from ..errors import TriggerError
from .running import log_to_stderr, run_watchers

__all__ = ["triggerer"]


@click.command(short_help="Run the watchers and handlers of a module or file.")
@click.argument("target")
@click.pass_context
def triggerer(context: click.Context, target: str) -> None:
    """Run the watchers of the assets in TARGET, and its handlers; a module (mypackage.assets) or a file (assets.py).

    Found are Asset objects at the top level, alone or in a list, tuple or dict, and functions with @on_event. Each
    watcher is restarted when it raises, from its watermark. Start it on several machines with one PostgreSQL: they
    share the watchers, and take over from one that dies. SIGINT and SIGTERM drain: the commit in hand is finished,
    cleanup() is called, and the others take over.
    """
    try:
        found = discover(target)
    except TriggerError as error:
        raise Misuse(str(error)) from error

    async def main() -> None:
        async with open_store(context) as store:
            await run_watchers(store, found.assets, f"running {target}", alone=False, handlers=found.handlers)

    log_to_stderr(logging.INFO)
    run(context, main)
