"""Handing out events: who takes, holds the row of the consumer, so that two never take the same event."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import takewhile
from typing import Any

from ....clock import from_microseconds, to_microseconds
from ....consumers.deciding import CRASHED, consumer_not_found, delivery_lost, member_lost, start_text
from ....consumers.records import ConsumerRecord, Delivery, FailedEvent, Member, Start, Taking
from ....records import Event
from ....registration.deciding import not_found
from ....scopes import AssetScope
from ....values import decode
from .. import statements
from ..steps import Now, Procedure, ask, tells
from .assets import get_asset
from .state import locate

__all__ = [
    "complete",
    "delete",
    "fail",
    "give_back",
    "has_work",
    "join",
    "leave",
    "list_consumers",
    "list_failed",
    "renew",
    "replay",
    "retry",
    "take",
]

Row = Sequence[Any]
_LARGEST = 2**63 - 1


def _event(row: Row) -> Event:
    event_id, asset, watcher, payload, key, created_at = row[:6]
    return Event(event_id, asset, watcher, decode(payload), key, from_microseconds(created_at))


# Readers.


@tells()
def join(asset: AssetScope, name: str, start: Start, owner: str, lease: int, now: Now) -> Procedure[Member]:
    """Add a reader, and the consumer where it is new."""
    scope = (yield from get_asset(asset)).scope
    where = {"asset_id": scope.asset_id, "name": name}
    rows, _ = yield ask(statements.consumers.find_consumer, **where)
    if not rows:
        taken = yield from _before(scope.asset_id or 0, start)
        yield ask(statements.consumers.add_consumer, **where, start=start_text(start), taken=taken, now=now())
        rows, _ = yield ask(statements.consumers.find_consumer, **where)
    consumer_id, begun = int(rows[0][0]), str(rows[0][1])
    rows, _ = yield ask(statements.consumers.add_member, consumer_id=consumer_id, owner=owner, lease=lease, now=now())
    return Member(int(rows[0][0]), consumer_id, scope, name, begun)


def _before(asset_id: int, start: Start) -> Procedure[int]:
    # The id behind which a start is.
    if isinstance(start, int):
        return max(min(start, _LARGEST) - 1, 0)
    rows: Sequence[Row] = []
    if isinstance(start, datetime):
        # Not the last one before: a clock that was set back has some of before behind some of after.
        moment = to_microseconds(start)
        rows, _ = yield ask(statements.consumers.first_event_since, asset_id=asset_id, moment=moment)
        if rows:
            return int(rows[0][0]) - 1
    if start != "beginning":
        rows, _ = yield ask(statements.consumers.last_event, asset_id=asset_id)
    return int(rows[0][0]) if rows else 0


@tells()
def renew(member: Member, lease: int, now: Now) -> Procedure[bool]:
    """Renew the lease of a reader."""
    rows, _ = yield ask(statements.consumers.renew_member, member_id=member.id, lease=lease, now=now())
    return len(rows) == 1


def give_back(member: Member, keep: Sequence[int]) -> Procedure[None]:
    """Give back what a reader holds."""
    # The rows are locked in no order; whoever else locks several of them waits here.
    if (yield ask(statements.consumers.hold_consumer, consumer_id=member.consumer_id)).rows:
        yield ask(statements.consumers.give_back, member_id=member.id, keep=list(keep))


@tells()
def leave(member: Member) -> Procedure[None]:
    """Give back what a reader holds, and forget the reader."""
    yield from give_back(member, ())
    yield ask(statements.consumers.drop_member, member_id=member.id)


# Taking.


def has_work(member: Member, now: Now) -> Procedure[bool]:
    """Tell whether there may be something to take."""
    rows, _ = yield ask(statements.consumers.has_work, consumer_id=member.consumer_id, now=now())
    if not rows:
        raise consumer_not_found(member.asset, member.name)
    return bool(rows[0][0])


@tells()
def take(member: Member, taking: Taking, lease: int, now: Now) -> Procedure[tuple[list[Delivery], list[int]]]:
    """Take events that wait, and then new ones; gives besides the ids of those that are delivered no more."""
    mine = {"consumer_id": member.consumer_id}
    rows, _ = yield ask(statements.consumers.hold_consumer, **mine)
    if not rows:
        raise consumer_not_found(member.asset, member.name)
    fence, taken, asset_id = rows[0]
    at = now()
    if not (yield ask(statements.consumers.renew_member, member_id=member.id, lease=lease, now=at)).rows:
        raise member_lost(member)
    exhausted = yield from _release(member.consumer_id, taking, at)
    waiting, alone = yield from _waiting(member.consumer_id, taking.limit, at)
    fresh: Sequence[Row] = []
    if not alone and len(waiting) < taking.limit:
        more = {"asset_id": asset_id, "taken": taken, "limit": taking.limit - len(waiting)}
        fresh, _ = yield ask(statements.consumers.list_fresh, **more)
    held = {**mine, "member_id": member.id, "fence": fence, "alone": len(waiting) + len(fresh) == 1}
    if waiting:
        yield ask(statements.consumers.take_waiting, **held, ids=[row[0] for row in waiting])
    if fresh:
        position = fresh[-1][0]
        yield ask(statements.consumers.take_fresh, **held, asset_id=asset_id, taken=taken, position=position)
        yield ask(statements.consumers.move_consumer, **mine, position=position)
    found = [(row, int(row[6])) for row in waiting] + [(row, 0) for row in fresh]
    return [Delivery(_event(row), member.consumer_id, fence, failures + 1) for row, failures in found], exhausted


def _release(consumer_id: int, taking: Taking, at: int | None) -> Procedure[list[int]]:
    # Take back what readers held whose lease has run out; gives what failed too often for that.
    late, _ = yield ask(statements.consumers.drop_late_members, consumer_id=consumer_id, now=at)
    if late:
        yield ask(statements.consumers.release, members=[row[0] for row in late], error=CRASHED)
    if late and taking.max_attempts:
        end = statements.consumers.drop_exhausted if taking.skip else statements.consumers.set_exhausted_aside
        rows, _ = yield ask(end, consumer_id=consumer_id, most=taking.max_attempts, now=at)
        return sorted(int(row[0]) for row in rows)
    return []


def _waiting(consumer_id: int, limit: int, at: int | None) -> Procedure[tuple[Sequence[Row], bool]]:
    # What waits and is due; and whether the rest must wait, since one that may have ended its process comes alone.
    rows, _ = yield ask(statements.consumers.list_waiting, consumer_id=consumer_id, now=at, limit=limit)
    if rows and rows[0][7]:
        return rows[:1], True
    harmless = list(takewhile(lambda row: not row[7], rows))
    return harmless, len(harmless) < len(rows)


# What becomes of a delivery.


def _this(delivery: Delivery) -> dict[str, int]:
    return {"consumer_id": delivery.consumer_id, "event_id": delivery.event.id, "this_fence": delivery.fence}


@tells()
def complete(delivery: Delivery) -> Procedure[None]:
    """Have an event done."""
    if not (yield ask(statements.consumers.complete, **_this(delivery))).rows:
        raise delivery_lost(delivery)


def fail(delivery: Delivery, error: str, delay: int | None, now: Now) -> Procedure[None]:
    """Count a failure."""
    why = error.encode(errors="backslashreplace").decode().replace("\0", "\\0")  # a traceback may show any bytes
    if not (yield ask(statements.consumers.fail, **_this(delivery), error=why, delay=delay, now=now())).rows:
        raise delivery_lost(delivery)


# For operators.


def _find(asset: AssetScope, name: str) -> Procedure[tuple[int, int]]:
    owner, where = locate(asset)
    found, _ = yield ask(statements.state.find_scope, owner, **where)
    if not found:
        raise not_found(asset)
    asset_id = int(found[0][0])
    rows, _ = yield ask(statements.consumers.find_consumer, asset_id=asset_id, name=name)
    if not rows:
        raise consumer_not_found(asset, name)
    return int(rows[0][0]), asset_id


def replay(asset: AssetScope, name: str, to: int | datetime) -> Procedure[int]:
    """Move a consumer back."""
    consumer_id, asset_id = yield from _find(asset, name)
    rows, _ = yield ask(statements.consumers.hold_consumer, consumer_id=consumer_id)
    taken = int(rows[0][1])
    before = yield from _before(asset_id, to)
    if before >= taken:
        return 0
    rows, _ = yield ask(statements.consumers.count_between, asset_id=asset_id, taken=before, position=taken)
    yield ask(statements.consumers.forget_from, consumer_id=consumer_id, position=before + 1)
    yield ask(statements.consumers.move_consumer, consumer_id=consumer_id, position=before)
    return int(rows[0][0])


def list_failed(asset: AssetScope, name: str, after: int, limit: int | None) -> Procedure[list[FailedEvent]]:
    """List the events that were set aside."""
    consumer_id, _ = yield from _find(asset, name)
    rows, _ = yield ask(
        statements.consumers.list_failed, consumer_id=consumer_id, after=min(after, _LARGEST), limit=limit
    )
    return [FailedEvent(_event(row), name, int(row[6]), row[7] or "", from_microseconds(row[8])) for row in rows]


def retry(asset: AssetScope, name: str, events: Sequence[int] | None) -> Procedure[int]:
    """Have events that were set aside delivered again."""
    consumer_id, _ = yield from _find(asset, name)
    yield ask(statements.consumers.hold_consumer, consumer_id=consumer_id)
    ids = {} if events is None else {"ids": list(events)}
    return (yield ask(statements.consumers.retry, events is not None, consumer_id=consumer_id, **ids)).touched


def delete(asset: AssetScope, name: str) -> Procedure[None]:
    """Delete a consumer."""
    consumer_id, _ = yield from _find(asset, name)
    yield ask(statements.consumers.drop_consumer, consumer_id=consumer_id)


def list_consumers(now: Now) -> Procedure[list[ConsumerRecord]]:
    """List every consumer."""
    rows, _ = yield ask(statements.consumers.list_consumers, now=now())
    return [
        ConsumerRecord(
            asset=asset,
            name=name,
            position=taken,
            behind=behind,
            in_hand=in_hand,
            waiting=waiting,
            failed=failed,
            readers=readers,
            created_at=from_microseconds(created_at),
        )
        for asset, name, taken, created_at, behind, in_hand, waiting, failed, readers in rows
    ]
