"""`asyncstore events`: the log, one line of JSON an event."""

from __future__ import annotations

import click

from ..store import Store
from . import consumers
from .finding import find_asset
from .output import emit, event_line
from .running import open_store, run

__all__ = ["events"]

_PAGE = 200
_LARGEST = 2**63 - 1  # what an id can be in a database


@click.group(short_help="Read the log of events.")
def events() -> None:
    """Read the log of events."""


for _command in consumers.COMMANDS:
    events.add_command(_command)


@events.command("list", short_help="Print events as JSON, one a line.")
@click.argument("asset", required=False)
@click.option("--after", type=click.IntRange(0, _LARGEST), default=0, metavar="ID", help="Only events behind this one.")
@click.option("--limit", type=click.IntRange(0, _LARGEST), metavar="N", help="At most so many.")
@click.pass_context
def list_events(ctx: click.Context, asset: str | None, after: int, limit: int | None) -> None:
    """Print the events of ASSET, a name or a URI, as JSON, one a line; without ASSET, those of all.

    They come in the order of their commits. The id of the last line is what --after takes to go on from there.
    """
    run(ctx, _list, open_store(ctx), asset, after, limit)


async def _list(store: Store, asset: str | None, after: int, limit: int | None) -> None:
    async with store:
        scope = None if asset is None else await find_asset(store, asset)
        while limit is None or limit > 0:
            size = _PAGE if limit is None else min(limit, _PAGE)
            page = await store.events(scope, after=after).alist(size)
            emit(event_line(event) for event in page)
            if len(page) < size:
                return
            after = page[-1].id
            limit = None if limit is None else limit - size
