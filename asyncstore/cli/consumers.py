"""`asyncstore events ...`: reading as a durable consumer, its failures, replay, and the pruning of old events."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime
from typing import Any

import anyio.to_thread
import click

from ..consumers.consumer import Consumer
from ..consumers.records import Start
from ..errors import ConsumerNotFoundError
from ..store import Store
from .failures import Misuse
from .finding import find_asset
from .output import emit, event_line, failed_line, pairs
from .running import open_store, run

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


_named = click.option("--consumer", required=True, metavar="NAME", help="The consumer's name.")


async def _find(store: Store, asset: str, name: str) -> Consumer:
    return store.events(await find_asset(store, asset), consumer=name)


async def _on(store: Store, asset: str, name: str, work: Callable[[Consumer], Any]) -> Any:
    async with store:
        try:
            return await work(await _find(store, asset, name))
        except ConsumerNotFoundError as error:
            raise Misuse(str(error)) from error


@click.command(short_help="Follow the events of an asset as a durable consumer.")
@click.argument("asset")
@_named
@click.option(
    "--start",
    callback=_place("beginning", "end"),
    metavar="PLACE",
    help="Where a new consumer begins; one that there is goes on where it is.",
)
@click.option("--limit", type=click.IntRange(0, _LARGEST), metavar="N", help="End after so many.")
@click.pass_context
def tail(ctx: click.Context, asset: str, consumer: str, start: Start | None, limit: int | None) -> None:
    """Print the events of ASSET as JSON, one a line, those in the log and then those that come.

    An event is done when its line is written, and is not printed again for this consumer. Programs that read under the
    same name divide the events. PLACE is `beginning`, `end`, the id of an event or a time.
    """
    run(ctx, _tail, open_store(ctx), asset, consumer, start, limit)


async def _tail(store: Store, asset: str, name: str, start: Start | None, limit: int | None) -> None:
    async with store:
        scope = await find_asset(store, asset)
        if limit == 0:
            return
        # Not `async with`: that a line cannot be written is no failure of its event.
        async with aclosing(aiter(store.events(scope, consumer=name, start=start))) as events:
            count = 0
            async for event in events:
                # A reader of stdout that stalls must not keep the lease from being renewed.
                await anyio.to_thread.run_sync(emit, [event_line(event)], abandon_on_cancel=True)
                await event.adone()
                count += 1
                if count == limit:
                    return


@click.command(short_help="Have a consumer read again from an event or a time on.")
@click.argument("asset")
@_named
@click.option("--to", required=True, callback=_place(), metavar="PLACE", help="The id of an event, or a time.")
@click.pass_context
def replay(ctx: click.Context, asset: str, consumer: str, to: Start) -> None:
    """Deliver every event of ASSET from PLACE on again, whatever became of it; nothing is skipped."""

    async def work(reader: Consumer) -> int:
        return await reader.areplay(to)  # type: ignore[arg-type]

    count = run(ctx, _on, open_store(ctx), asset, consumer, work)
    emit([f"{count} event(s) are delivered again."])


@click.command(short_help="Print the events that failed too often, as JSON.")
@click.argument("asset")
@_named
@click.pass_context
def failed(ctx: click.Context, asset: str, consumer: str) -> None:
    """Print the events of ASSET that were set aside, as JSON, one a line, each with its last traceback."""

    async def work(reader: Consumer) -> None:
        after = 0
        while page := await reader.alist_failed(after=after, limit=_PAGE):
            emit(failed_line(each) for each in page)
            after = page[-1].event.id

    run(ctx, _on, open_store(ctx), asset, consumer, work)


@click.command(short_help="Deliver events again that failed too often.")
@click.argument("asset")
@click.argument("ids", nargs=-1, type=click.IntRange(0, _LARGEST))
@_named
@click.pass_context
def retry(ctx: click.Context, asset: str, ids: tuple[int, ...], consumer: str) -> None:
    """Deliver the events of ASSET with these IDS that were set aside again, as if they had never failed; or all."""

    async def work(reader: Consumer) -> int:
        return await reader.aretry(ids or None)

    count = run(ctx, _on, open_store(ctx), asset, consumer, work)
    emit([f"{count} event(s) are delivered again."])


@click.command(short_help="Forget a consumer.")
@click.argument("asset")
@_named
@click.pass_context
def forget(ctx: click.Context, asset: str, consumer: str) -> None:
    """Delete a consumer of ASSET with all that is known of it; the events stay, and none is kept for its sake."""
    run(ctx, _on, open_store(ctx), asset, consumer, Consumer.adelete)
    emit([f"Forgot consumer {consumer}."])


@click.command("consumers", short_help="List the consumers, one a line.")
@click.pass_context
def list_consumers(ctx: click.Context) -> None:
    """List the consumers of every asset, one a line: how many events are before each, in hand, waiting, set aside."""
    run(ctx, _list, open_store(ctx))


async def _list(store: Store) -> None:
    async with store:
        records = await store.alist_consumers()
    emit(
        pairs(
            asset=each.asset,
            consumer=each.name,
            position=each.position,
            behind=each.behind,
            in_hand=each.in_hand,
            waiting=each.waiting,
            failed=each.failed,
            readers=each.readers,
        )
        for each in records
    )


@click.command(short_help="Delete old events.")
@click.option("--unfinished", is_flag=True, help="Those too that a consumer has not done.")
@click.option("--dry-run", is_flag=True, help="Delete nothing; say how many would go.")
@click.pass_context
def prune(ctx: click.Context, unfinished: bool, dry_run: bool) -> None:
    """Delete the events that [state_store] keep_events_days and keep_events_count do not keep.

    What a consumer of the asset has not done stays. The keys of events stay, so that none is recorded again.
    """
    run(ctx, _prune, open_store(ctx), unfinished=unfinished, dry_run=dry_run)


async def _prune(store: Store, *, unfinished: bool, dry_run: bool) -> None:
    async with store:
        report = await store.aprune_events(unfinished=unfinished, dry_run=dry_run)
    if report.skipped is not None:
        emit([f"Skipped: {report.skipped}"])
    else:
        emit([f"{'Would delete' if dry_run else 'Deleted'} {report.deleted} event(s)."])


#: What the group `events` has besides `list`.
COMMANDS = (tail, replay, failed, retry, forget, list_consumers, prune)
