"""Deleting old events, those of one asset at a time."""

from __future__ import annotations

from .. import statements
from ..steps import Now, Procedure, ask

__all__ = ["count", "list_assets", "prune"]


def list_assets() -> Procedure[list[int]]:
    """List the assets that have events."""
    rows, _ = yield ask(statements.pruning.list_logged_assets)
    return [int(row[0]) for row in rows]


def _position(asset_id: int, age: int | None, keep: int | None, now: Now) -> Procedure[int]:
    # The last event that is too old, or one too many.
    position = 0
    if age is not None:
        # Looked up first: what is recorded from here on has a larger id, and is young.
        last, _ = yield ask(statements.consumers.last_event, asset_id=asset_id)
        rows, _ = yield ask(statements.pruning.first_young, asset_id=asset_id, age=age, now=now())
        position = int(rows[0][0]) - 1 if rows else int(last[0][0]) if last else 0
    if keep is not None:
        rows, _ = yield ask(statements.pruning.last_beyond, asset_id=asset_id, keep=keep, one=1)
        position = max(position, int(rows[0][0]) if rows else 0)
    return position


def count(asset_id: int, age: int | None, keep: int | None, unfinished: bool, now: Now) -> Procedure[int]:
    """Count the events that would go."""
    position = yield from _position(asset_id, age, keep, now)
    rows, _ = yield ask(statements.pruning.count_old, unfinished, asset_id=asset_id, position=position)
    return int(rows[0][0])


def prune(
    asset_id: int, age: int | None, keep: int | None, unfinished: bool, limit: int | None, now: Now
) -> Procedure[int]:
    """Delete so many old events; gives how many went."""
    if unfinished:
        # Whoever hands out an event that is about to go would leave a delivery of nothing.
        yield ask(statements.pruning.hold_consumers, asset_id=asset_id)
    position = yield from _position(asset_id, age, keep, now)
    where = {"asset_id": asset_id, "position": position, "limit": limit}
    gone = (yield ask(statements.pruning.drop_old, unfinished, **where)).touched
    if gone and unfinished:
        yield ask(statements.pruning.drop_lost_deliveries, asset_id=asset_id)
    return gone
