"""`asyncstore events`: the log of events, and those who read it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import click

from ..store import Store
from . import completing, consumers
from .commands import Group
from .event_shapes import EventRow
from .finding import find_asset
from .running import open_store, run
from .showing import is_terminal, show_pages, shows

__all__ = ["events"]

_PAGE = 200
_LARGEST = 2**63 - 1  # what an id can be in a database


@click.group(cls=Group, short_help="Read the log of events; replay, retry, prune.")
def events() -> None:
    """Read the log of events."""


for _command in consumers.COMMANDS:
    events.add_command(_command)


@events.command("list", short_help="List events.")
@click.argument("asset", required=False, shell_complete=completing.complete_assets)
@click.option("--after", type=click.IntRange(0, _LARGEST), default=0, metavar="ID", help="Only events behind this one.")
@click.option("--limit", type=click.IntRange(0, _LARGEST), metavar="N", help="At most so many.")
@shows(EventRow)
@click.pass_context
def list_events(ctx: click.Context, asset: str | None, after: int, limit: int | None, as_json: bool) -> None:
    """List the events of ASSET, a name or a URI; without ASSET, those of all.

    A table on a terminal, JSON one a line elsewhere. They come in the order of their commits. The id of the last line
    is what --after takes to go on from there.
    """
    run(ctx, _list, open_store(ctx), asset, after, limit, as_json or not is_terminal())


async def _list(store: Store, asset: str | None, after: int, limit: int | None, as_json: bool) -> None:
    async def pages(after: int, limit: int | None) -> AsyncIterator[list[EventRow]]:
        while limit is None or limit > 0:
            size = _PAGE if limit is None else min(limit, _PAGE)
            page = await store.events(scope, after=after).alist(size)
            yield [EventRow.of(event) for event in page]
            if len(page) < size:
                return
            after = page[-1].id
            limit = None if limit is None else limit - size

    async with store:
        scope = None if asset is None else (await find_asset(store, asset)).scope
        await show_pages(EventRow, pages(after, limit), as_json=as_json)
