"""Consumers of events: who reads, what is in hand, what waits for another attempt, what was set aside."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Executable,
    Select,
    Text,
    bindparam,
    case,
    delete,
    exists,
    false,
    func,
    insert,
    literal,
    null,
    select,
    true,
    update,
)

from .. import dialect
from ..dialect import NOW
from ..schema import asset, consumer, delivery, event, member, watcher
from .shared import given

__all__ = [
    "add_consumer",
    "add_member",
    "complete",
    "count_between",
    "drop_consumer",
    "drop_exhausted",
    "drop_late_members",
    "drop_member",
    "fail",
    "find_consumer",
    "first_event_since",
    "forget_from",
    "give_back",
    "has_work",
    "hold_consumer",
    "last_event",
    "list_consumers",
    "list_failed",
    "list_fresh",
    "list_waiting",
    "move_consumer",
    "release",
    "renew_member",
    "retry",
    "set_exhausted_aside",
    "take_fresh",
    "take_waiting",
]


def _big(name: str) -> ColumnElement[Any]:
    return bindparam(name, type_=BigInteger)


_EVENT = [
    *(event.c.id, asset.c.name.label("asset_name"), watcher.c.name.label("watcher_name")),
    *(event.c.payload, event.c.key, event.c.created_at),
]
_waiting = delivery.c.not_before.is_not(None)
_OF_CONSUMER = delivery.c.consumer_id == _big("consumer_id")
_THIS = (_OF_CONSUMER, delivery.c.event_id == _big("event_id"), delivery.c.fence == _big("this_fence"))


# Consumers and their readers.


def find_consumer() -> Executable:
    """Find a consumer of an asset by its name; gives where it began, too."""
    return select(consumer.c.id, consumer.c.start).where(
        consumer.c.asset_id == _big("asset_id"), consumer.c.name == bindparam("name", type_=Text)
    )


def add_consumer() -> Executable:
    """Add a consumer that begins behind an event; touches nothing where there is one of that name."""
    columns = given(consumer, "asset_id", "name", "start", "taken")
    values = {**columns, "fence": literal(0, BigInteger), "created_at": NOW}
    return dialect.insert_new(consumer, values)


def last_event() -> Executable:
    """Find the last event of an asset."""
    return select(event.c.id).where(event.c.asset_id == _big("asset_id")).order_by(event.c.id.desc()).limit(1)


def first_event_since() -> Executable:
    """Find the first event of an asset that was recorded at a time or later."""
    return (
        select(event.c.id)
        .where(event.c.asset_id == _big("asset_id"), event.c.created_at >= _big("moment"))
        .order_by(event.c.id)
        .limit(1)
    )


def add_member() -> Executable:
    """Add a reader with a lease; gives its id."""
    values = {**given(member, "consumer_id", "owner"), "lease_until": NOW + _big("lease")}
    return insert(member).values(values).returning(member.c.id)


def renew_member() -> Executable:
    """Renew the lease of a reader; gives its id, nothing where it was given up."""
    this = member.c.id == _big("member_id")
    return update(member).where(this).values(lease_until=NOW + _big("lease")).returning(member.c.id)


def drop_member() -> Executable:
    """Delete a reader."""
    return delete(member).where(member.c.id == _big("member_id"))


def drop_late_members() -> Executable:
    """Delete the readers of a consumer whose lease has run out; gives their ids."""
    late = (member.c.consumer_id == _big("consumer_id"), member.c.lease_until <= NOW)
    return delete(member).where(*late).returning(member.c.id)


def hold_consumer() -> Executable:
    """Lock a consumer until the end of the transaction, and count; gives the count, its position and its asset."""
    return (
        update(consumer)
        .where(consumer.c.id == _big("consumer_id"))
        .values(fence=consumer.c.fence + 1)
        .returning(consumer.c.fence, consumer.c.taken, consumer.c.asset_id)
    )


def move_consumer() -> Executable:
    """Set the position of a consumer."""
    return update(consumer).where(consumer.c.id == _big("consumer_id")).values(taken=_big("position"))


def drop_consumer() -> Executable:
    """Delete a consumer with all that hangs on it."""
    return delete(consumer).where(consumer.c.id == _big("consumer_id"))


def has_work() -> Executable:
    """Tell whether a consumer has new events, due ones, or readers to be given up; no row where it is gone."""
    fresh = exists().where(event.c.asset_id == consumer.c.asset_id, event.c.id > consumer.c.taken)
    due = exists().where(delivery.c.consumer_id == consumer.c.id, delivery.c.not_before <= NOW)
    late = exists().where(member.c.consumer_id == consumer.c.id, member.c.lease_until <= NOW)
    found = case((fresh, 1), (due, 1), (late, 1), else_=0)
    return select(found).where(consumer.c.id == _big("consumer_id"))


def list_consumers() -> Executable:
    """List every consumer by asset and name, with what it has before it."""

    def count(of: Any, *where: ColumnElement[bool]) -> ColumnElement[int]:
        return select(func.count()).select_from(of).where(*where).scalar_subquery()

    mine = delivery.c.consumer_id == consumer.c.id
    return (
        select(
            asset.c.name.label("asset_name"),
            consumer.c.name,
            consumer.c.taken,
            consumer.c.created_at,
            count(event, event.c.asset_id == consumer.c.asset_id, event.c.id > consumer.c.taken),
            count(delivery, mine, delivery.c.member_id.is_not(None)),
            count(delivery, mine, _waiting),
            count(delivery, mine, delivery.c.failed_at.is_not(None)),
            count(member, member.c.consumer_id == consumer.c.id, member.c.lease_until > NOW),
        )
        .join(asset, asset.c.id == consumer.c.asset_id)
        .order_by(asset.c.name, consumer.c.name)
    )


# Taking.


def _events(*columns: ColumnElement[Any]) -> Select[Any]:
    return (
        select(*_EVENT, *columns)
        .select_from(event)
        .join(asset, asset.c.id == event.c.asset_id)
        .join(watcher, watcher.c.id == event.c.watcher_id)
    )


def list_waiting() -> Executable:
    """List the events that are due for another attempt, and how often they failed."""
    return (
        _events(delivery.c.failures, delivery.c.alone)
        .join(delivery, delivery.c.event_id == event.c.id)
        .where(_OF_CONSUMER, delivery.c.not_before <= NOW)
        .order_by(event.c.id)
        .limit(dialect.limit("limit"))
    )


def list_fresh() -> Executable:
    """List the events that were not handed out yet."""
    return (
        _events()
        .where(event.c.asset_id == _big("asset_id"), event.c.id > _big("taken"))
        .order_by(event.c.id)
        .limit(dialect.limit("limit"))
    )


def take_waiting() -> Executable:
    """Hand out events that waited."""
    values = given(delivery, "member_id", "fence", "alone")
    mine = (_OF_CONSUMER, dialect.in_list(delivery.c.event_id, "ids"))
    return update(delivery).where(*mine).values({**values, "not_before": null()})


def take_fresh() -> Executable:
    """Hand out every event behind `taken`, up to `position`."""
    columns = ["consumer_id", "event_id", "member_id", "fence", "failures", "alone"]
    parameters = given(delivery, "consumer_id", "member_id", "fence", "alone")
    rows = select(
        parameters["consumer_id"],
        event.c.id,
        parameters["member_id"],
        parameters["fence"],
        literal(0),
        parameters["alone"],
    ).where(event.c.asset_id == _big("asset_id"), event.c.id > _big("taken"), event.c.id <= _big("position"))
    return insert(delivery).from_select(columns, rows)


def release() -> Executable:
    """Take back what readers held that were given up.

    Of several that one reader held nobody knows which one ended it, so only one that was alone has failed for certain.
    """
    one = case((delivery.c.alone, 1), else_=0)
    return (
        update(delivery)
        .where(dialect.in_list(delivery.c.member_id, "members"))
        .values(
            member_id=null(),
            fence=literal(0, BigInteger),
            failures=delivery.c.failures + one,
            error=case((delivery.c.alone, bindparam("error", type_=Text)), else_=delivery.c.error),
            alone=true(),
            not_before=literal(0, BigInteger),
        )
    )


_EXHAUSTED = (_OF_CONSUMER, _waiting, delivery.c.failures >= _big("most"))


def set_exhausted_aside() -> Executable:
    """Set aside what waits though it failed too often; gives the ids."""
    aside = update(delivery).where(*_EXHAUSTED).values(not_before=null(), failed_at=NOW)
    return aside.returning(delivery.c.event_id)


def drop_exhausted() -> Executable:
    """Skip what waits though it failed too often; gives the ids."""
    return delete(delivery).where(*_EXHAUSTED).returning(delivery.c.event_id)


# What becomes of a delivery.


def complete() -> Executable:
    """Have an event done, while this delivery of it holds; gives its id then."""
    return delete(delivery).where(*_THIS).returning(delivery.c.event_id)


def fail() -> Executable:
    """Have an event wait for `delay` microseconds, or without one be set aside, while this delivery holds; as above."""
    delay = _big("delay")
    return (
        update(delivery)
        .where(*_THIS)
        .values(
            member_id=null(),
            fence=literal(0, BigInteger),
            failures=delivery.c.failures + 1,
            alone=false(),
            not_before=NOW + delay,
            failed_at=case((delay.is_(None), NOW), else_=null()),
            error=bindparam("error", type_=Text),
        )
        .returning(delivery.c.event_id)
    )


def give_back() -> Executable:
    """Have what a reader holds wait, but for some."""
    held = (delivery.c.member_id == _big("member_id"), ~dialect.in_list(delivery.c.event_id, "keep"))
    return (
        update(delivery)
        .where(*held)
        .values(member_id=null(), fence=literal(0, BigInteger), alone=false(), not_before=literal(0, BigInteger))
    )


def forget_from() -> Executable:
    """Forget every delivery from an event on."""
    return delete(delivery).where(_OF_CONSUMER, delivery.c.event_id >= _big("position"))


def count_between() -> Executable:
    """Count the events of an asset behind `taken`, up to `position`."""
    between = (event.c.id > _big("taken"), event.c.id <= _big("position"))
    return select(func.count()).select_from(event).where(event.c.asset_id == _big("asset_id"), *between)


def list_failed() -> Executable:
    """List the events of a consumer that were set aside, behind an id."""
    return (
        _events(delivery.c.failures, delivery.c.error, delivery.c.failed_at)
        .join(delivery, delivery.c.event_id == event.c.id)
        .where(_OF_CONSUMER, delivery.c.failed_at.is_not(None), delivery.c.event_id > _big("after"))
        .order_by(event.c.id)
        .limit(dialect.limit("limit"))
    )


def retry(some: bool) -> Executable:
    """Have events that were set aside wait for another attempt, as if they had never failed; all, or those named."""
    statement = update(delivery).where(_OF_CONSUMER, delivery.c.failed_at.is_not(None))
    if some:
        statement = statement.where(dialect.in_list(delivery.c.event_id, "ids"))
    return statement.values(failed_at=null(), failures=literal(0), alone=false(), not_before=literal(0, BigInteger))
