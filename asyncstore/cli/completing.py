"""What the shell is offered while somebody types: quickly, and silently whatever goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import warnings
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from ..abc import Capability
from ..scopes import TaskScope
from ..store import Store, connect
from .finding import find_asset
from .running import GlobalOptions, settings_with

__all__ = ["complete_assets", "complete_keys", "complete_watchers"]

_MOST = 200
#: What a shell takes for one word as it stands. Others are not offered: a name may hold `$(...)`.
_SAFE = re.compile(r"[\w@%+=:,./][\w@%+=:,./-]*")
#: Seconds that a shell waits at most.
_PATIENCE = 2.0
Names = Callable[[Store], Awaitable[list[str]]]


@contextlib.contextmanager
def _silently() -> Generator[None]:
    # The shell would show it in the middle of what is being typed.
    before = logging.root.manager.disable
    logging.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _suggest(ctx: click.Context, incomplete: str, names: Names) -> list[CompletionItem]:
    """Give what is found in the store and begins as what was typed; nothing where anything goes wrong.

    A SQLite file that does not exist is not made.

    :param ctx: the context of the command.
    :param incomplete: what was typed.
    :param names: reads them.
    """

    async def main() -> list[str]:
        async with asyncio.timeout(_PATIENCE):
            async with connect(settings=settings) as store:
                return await names(store)

    with contextlib.suppress(Exception), _silently():
        given = ctx.find_root().params
        path = given.get("config")
        options = GlobalOptions(given.get("database"), None if path is None else Path(path))
        settings = settings_with(options)
        _, _, file = settings.database.url.partition(":///")
        in_file = settings.state_store.backend is None and settings.database.url.startswith("sqlite")
        if in_file and not Path(file).exists():
            return []
        found = asyncio.run(main())
        return [CompletionItem(name) for name in found if name.startswith(incomplete) and _SAFE.fullmatch(name)]
    return []


def complete_assets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the names of assets."""

    async def names(store: Store) -> list[str]:
        # The page begins just before what was typed.
        before = incomplete[:-1]
        return [each.name for each in await store.browser.alist_assets(after=before, limit=_MOST)]

    return _suggest(ctx, incomplete, names)


def complete_keys(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the keys of the asset or task that was named before."""

    async def names(store: Store) -> list[str]:
        if not store.core.can(Capability.LISTING):
            return []
        given: dict[str, Any] = ctx.params
        if "asset" in given:
            scope: Any = (await find_asset(store, given["asset"])).scope
        else:
            scope = TaskScope(given["dag"], given["run"], given["task"], given.get("map_index", -1))
        return await store.backend.alist_keys(scope, incomplete, limit=_MOST)

    return _suggest(ctx, incomplete, names)


def complete_watchers(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the names of watchers, of the asset that was named before where there is one."""

    async def names(store: Store) -> list[str]:
        asset = ctx.params.get("asset")
        return [each.name for each in await store.alist_watchers() if asset in {None, each.asset}]

    return _suggest(ctx, incomplete, names)
