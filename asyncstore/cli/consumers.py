"""`asyncstore events ...`: reading as a durable consumer, its failures, replay, and the pruning of old events."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime
from typing import Any

import anyio.to_thread
import click

from ..consumers.consumer import Consumer
from ..consumers.records import PruneReport, Start
from ..errors import ConsumerNotFoundError
from ..store import Store
from . import completing
from .commands import confirm, counted, yes_option
from .event_shapes import ConsumerRow, EventRow, FailedRow, Forgotten, Pruned, Redelivered
from .failures import Misuse
from .finding import find_asset
from .output import emit
from .running import open_store, run
from .showing import RowWriter, is_terminal, show_one, show_rows, shows

__all__ = ["COMMANDS"]

_PAGE = 200
_LARGEST = 2**63 - 1  # what an id can be in a database


def _place(*words: str) -> Callable[[click.Context, click.Parameter, str | None], Start | None]:
    """Give what turns the text of an option into a place in the log: a word, an id, or a time."""

    def convert(ctx: click.Context, param: click.Parameter, text: str | None) -> Start | None:
        if text is None:
            return None
        if text in words:
            return text  # type: ignore[return-value]
        if text.isascii() and text.isdigit() and int(text) <= _LARGEST:
            return int(text)
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            kinds = ", ".join([*words, "the id of an event", "a time such as 2026-11-20T08:00:00+00:00"])
            raise click.BadParameter(f"{text!r} is none of: {kinds}", ctx, param) from None
        if moment.tzinfo is None:
            raise click.BadParameter(f"{text!r} has no time zone; write {text}+00:00 for UTC", ctx, param)
        return moment

    return convert


_asset = click.argument("asset", shell_complete=completing.complete_assets)
_named = click.option("--consumer", required=True, metavar="NAME", help="The consumer's name.")


async def _find(store: Store, asset: str, name: str) -> Consumer:
    return store.events((await find_asset(store, asset)).scope, consumer=name)


async def _on(store: Store, asset: str, name: str, work: Callable[[Consumer], Any]) -> Any:
    async with store:
        try:
            return await work(await _find(store, asset, name))
        except ConsumerNotFoundError as error:
            raise Misuse(str(error)) from error


@click.command(short_help="Follow the events of an asset as a durable consumer.")
@_asset
@_named
@click.option(
    "--start",
    callback=_place("beginning", "end"),
    metavar="PLACE",
    help="Where a new consumer begins; one that there is goes on where it is.",
)
@click.option("--limit", type=click.IntRange(0, _LARGEST), metavar="N", help="End after so many.")
@shows(EventRow)
@click.pass_context
def tail(ctx: click.Context, asset: str, consumer: str, start: Start | None, limit: int | None, as_json: bool) -> None:
    """Print the events of ASSET, those in the log and then those that come.

    A table on a terminal, JSON one a line elsewhere. An event is done when its line is written, and is not printed
    again for this consumer. Programs that read under the same name divide the events. PLACE is `beginning`, `end`, the
    id of an event or a time.
    """
    writer = RowWriter(EventRow, as_json=as_json or not is_terminal())
    run(ctx, _tail, open_store(ctx), asset, consumer, start, limit, writer)


async def _tail(store: Store, asset: str, name: str, start: Start | None, limit: int | None, writer: RowWriter) -> None:
    async with store:
        scope = (await find_asset(store, asset)).scope
        if limit == 0:
            return
        # Not `async with`: that a line cannot be written is no failure of its event.
        async with aclosing(aiter(store.events(scope, consumer=name, start=start))) as events:
            count = 0
            async for event in events:
                # A reader of stdout that stalls must not keep the lease from being renewed.
                await anyio.to_thread.run_sync(writer.write, [EventRow.of(event)], abandon_on_cancel=True)
                await event.adone()
                count += 1
                if count == limit:
                    return


@click.command(short_help="Have a consumer read again from an event or a time on.")
@_asset
@_named
@click.option("--to", required=True, callback=_place(), metavar="PLACE", help="The id of an event, or a time.")
@shows(Redelivered)
@click.pass_context
def replay(ctx: click.Context, asset: str, consumer: str, to: Start, as_json: bool) -> None:
    """Deliver every event of ASSET from PLACE on again, whatever became of it; nothing is skipped."""

    async def work(reader: Consumer) -> int:
        return await reader.areplay(to)  # type: ignore[arg-type]

    _tell_redelivered(run(ctx, _on, open_store(ctx), asset, consumer, work), as_json=as_json)


def _tell_redelivered(count: int, *, as_json: bool) -> None:
    if as_json:
        show_one(Redelivered(count), as_json=True)
    else:
        emit([f"{count} event(s) are delivered again."])


@click.command(short_help="List the events that failed too often.")
@_asset
@_named
@shows(FailedRow)
@click.pass_context
def failed(ctx: click.Context, asset: str, consumer: str, as_json: bool) -> None:
    """List the events of ASSET that were set aside, each with its last traceback.

    A table on a terminal, JSON one a line elsewhere.
    """
    writer = RowWriter(FailedRow, as_json=as_json or not is_terminal())

    async def work(reader: Consumer) -> None:
        after = 0
        while page := await reader.alist_failed(after=after, limit=_PAGE):
            writer.write([FailedRow.failing(each) for each in page])
            after = page[-1].event.id

    run(ctx, _on, open_store(ctx), asset, consumer, work)


@click.command(short_help="Deliver events again that failed too often.")
@_asset
@click.argument("ids", nargs=-1, type=click.IntRange(0, _LARGEST))
@_named
@shows(Redelivered)
@click.pass_context
def retry(ctx: click.Context, asset: str, ids: tuple[int, ...], consumer: str, as_json: bool) -> None:
    """Deliver the events of ASSET with these IDS that were set aside again, as if they had never failed; or all."""

    async def work(reader: Consumer) -> int:
        return await reader.aretry(ids or None)

    _tell_redelivered(run(ctx, _on, open_store(ctx), asset, consumer, work), as_json=as_json)


@click.command(short_help="Forget a consumer.")
@_asset
@_named
@yes_option
@shows(Forgotten)
@click.pass_context
def forget(ctx: click.Context, asset: str, consumer: str, yes: bool, as_json: bool) -> None:
    """Delete a consumer of ASSET with all that is known of it; the events stay, and none is kept for its sake."""
    if not yes:
        found = run(ctx, _weigh, open_store(ctx), asset, consumer)
        confirm(f"Forget consumer {consumer!r} of asset {asset!r}{found}", yes=yes)
    run(ctx, _on, open_store(ctx), asset, consumer, Consumer.adelete)
    if as_json:
        show_one(Forgotten(consumer), as_json=True)
    else:
        emit([f"Forgot consumer {consumer}."])


async def _weigh(store: Store, asset: str, name: str) -> str:
    async with store:
        record = await find_asset(store, asset)
        for each in await store.alist_consumers():
            if (each.asset, each.name) == (record.name, name):
                return f": {each.behind} before it, {each.in_hand + each.waiting} in hand, {each.failed} failed"
    return ""


@click.command("consumers", short_help="List the consumers.")
@shows(ConsumerRow)
@click.pass_context
def list_consumers(ctx: click.Context, as_json: bool) -> None:
    """List the consumers of every asset: how many events are before each, in hand, waiting, set aside."""

    async def main() -> list[ConsumerRow]:
        async with open_store(ctx) as store:
            return [ConsumerRow.of(each) for each in await store.alist_consumers()]

    show_rows(ConsumerRow, run(ctx, main), as_json=as_json)


@click.command(short_help="Delete old events.")
@click.option("--unfinished", is_flag=True, help="Those too that a consumer has not done.")
@click.option("--dry-run", is_flag=True, help="Delete nothing; say how many would go.")
@yes_option
@shows(Pruned)
@click.pass_context
def prune(ctx: click.Context, unfinished: bool, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Delete the events that [state_store] keep_events_days and keep_events_count do not keep.

    What a consumer of the asset has not done stays, unless --unfinished says otherwise, which is asked about. The keys
    of events stay, so that none is recorded again.
    """

    async def work(*, dry_run: bool) -> PruneReport:
        async with open_store(ctx) as store:
            return await store.aprune_events(unfinished=unfinished, dry_run=dry_run)

    if unfinished and not dry_run and not yes:
        found = run(ctx, work, dry_run=True)
        if found.deleted:
            confirm(f"Delete {counted(found.deleted, 'event')}, done or not", yes=yes)
    report = run(ctx, work, dry_run=dry_run)
    if as_json:
        show_one(Pruned(report.deleted, dry_run, report.skipped), as_json=True)
    elif report.skipped is not None:
        emit([f"Skipped: {report.skipped}"])
    else:
        emit([f"{'Would delete' if dry_run else 'Deleted'} {report.deleted} event(s)."])


#: What the group `events` has besides `list`.
COMMANDS = (tail, replay, failed, retry, forget, list_consumers, prune)
