"""Old events: which may go, and their going. Their keys stay."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Executable, bindparam, delete, exists, func, or_, select

from .. import dialect
from ..dialect import NOW
from ..schema import asset, consumer, delivery, event

__all__ = [
    "count_old",
    "drop_lost_deliveries",
    "drop_old",
    "first_young",
    "hold_consumers",
    "last_beyond",
    "list_logged_assets",
]


def _big(name: str) -> ColumnElement[Any]:
    return bindparam(name, type_=BigInteger)


_OF_ASSET = event.c.asset_id == _big("asset_id")


def list_logged_assets() -> Executable:
    """List the assets that have events."""
    return select(asset.c.id).where(exists().where(event.c.asset_id == asset.c.id)).order_by(asset.c.id)


def first_young() -> Executable:
    """Find the first event of an asset that is younger than `age` microseconds."""
    young = event.c.created_at >= NOW - _big("age")
    return select(event.c.id).where(_OF_ASSET, young).order_by(event.c.id).limit(1)


def last_beyond() -> Executable:
    """Find the last event of an asset that `keep` later ones follow."""
    return (
        select(event.c.id).where(_OF_ASSET).order_by(event.c.id.desc()).limit(dialect.limit("one")).offset(_big("keep"))
    )


def _old(unfinished: bool) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = [_OF_ASSET, event.c.id <= _big("position")]
    if not unfinished:
        slowest = select(func.min(consumer.c.taken)).where(consumer.c.asset_id == _big("asset_id")).scalar_subquery()
        held = exists().where(
            consumer.c.asset_id == _big("asset_id"),
            delivery.c.consumer_id == consumer.c.id,
            delivery.c.event_id == event.c.id,
        )
        where += [or_(slowest.is_(None), event.c.id <= slowest), ~held]
    return where


def count_old(unfinished: bool) -> Executable:
    """Count the events of an asset up to `position`; those that no consumer needs, or all."""
    return select(func.count()).select_from(event).where(*_old(unfinished))


def drop_old(unfinished: bool) -> Executable:
    """Delete so many events of an asset up to `position`, the oldest first; those that no consumer needs, or all."""
    oldest = select(event.c.id).where(*_old(unfinished)).order_by(event.c.id).limit(dialect.limit("limit"))
    return delete(event).where(event.c.id.in_(oldest.correlate(None)))


def hold_consumers() -> Executable:
    """Lock every consumer of an asset until the end of the transaction, in the order of their ids."""
    mine = select(consumer.c.id).where(consumer.c.asset_id == _big("asset_id")).order_by(consumer.c.id)
    return mine.with_for_update()  # SQLite leaves it out: there nobody else may write meanwhile


def drop_lost_deliveries() -> Executable:
    """Delete the deliveries of an asset's events that are no more."""
    mine = select(consumer.c.id).where(consumer.c.asset_id == _big("asset_id"))
    there = exists().where(event.c.id == delivery.c.event_id)
    return delete(delivery).where(delivery.c.consumer_id.in_(mine), ~there)
