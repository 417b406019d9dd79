"""The log of events."""

from __future__ import annotations

from sqlalchemy import Executable, bindparam, insert, select

from .. import dialect
from ..schema import asset, event, event_key, watcher
from .shared import given

__all__ = ["add_event", "add_event_key", "find_event_key", "list_events"]


def find_event_key() -> Executable:
    """Find the event that a watcher recorded under a key."""
    return select(event_key.c.event_id).where(
        event_key.c.watcher_id == bindparam("watcher_id"), event_key.c.key == bindparam("key")
    )


def add_event_key() -> Executable:
    """Keep the key of an event."""
    return insert(event_key).values(given(event_key, "watcher_id", "key", "event_id"))


def add_event() -> Executable:
    """Record an event."""
    columns = ("id", "asset_id", "watcher_id", "payload", "key", "created_at")
    return insert(event).values(given(event, *columns))


def list_events(of_asset: bool) -> Executable:
    """List events behind an id, in the order of their commits; of one asset, or of all."""
    statement = (
        select(event.c.id, asset.c.name, watcher.c.name, event.c.payload, event.c.key, event.c.created_at)
        .join(asset, asset.c.id == event.c.asset_id)
        .join(watcher, watcher.c.id == event.c.watcher_id)
        .where(event.c.id > bindparam("after"))
    )
    if of_asset:
        statement = statement.where(event.c.asset_id == bindparam("asset_id"))
    return statement.order_by(event.c.id).limit(dialect.limit("limit"))
