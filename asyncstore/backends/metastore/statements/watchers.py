"""Watchers: who holds which, and what it is doing."""

from __future__ import annotations

from sqlalchemy import BigInteger, Executable, Integer, Text, bindparam, case, func, literal, null, select, update

from .. import dialect
from ..dialect import NOW
from ..schema import asset, asset_state, triggerer, watcher

__all__ = ["check_lease", "claim_watcher", "count_event", "list_watchers", "report_watcher"]


def claim_watcher() -> Executable:
    """Claim a watcher by hand with the next fencing number, whoever has it; gives its id and the number."""
    columns = [watcher.c.asset_id, watcher.c.name, watcher.c.fence, watcher.c.owner, watcher.c.state]
    columns += [watcher.c.restarts, watcher.c.updated_at, watcher.c.claimed_at, watcher.c.triggerer_id]
    columns += [watcher.c.asked]
    values = {"updated_at": NOW, "claimed_at": NOW, "triggerer_id": null(), "asked": null()}
    return dialect.claim(watcher, columns, values).returning(watcher.c.id, watcher.c.fence)


def check_lease() -> Executable:
    """Read the fence of a watcher, since when its asset is inactive, who has it, and what is left of that lease."""
    return (
        select(watcher.c.fence, asset.c.deactivated_at, watcher.c.triggerer_id, triggerer.c.lease_until - NOW)
        .join(asset, asset.c.id == watcher.c.asset_id)
        .outerjoin(triggerer, triggerer.c.id == watcher.c.triggerer_id)
        .where(watcher.c.id == bindparam("watcher_id"))
    )


def report_watcher() -> Executable:
    """Keep what a watcher is doing, while the lease holds."""
    error = bindparam("error", type_=Text)
    return (
        update(watcher)
        .where(watcher.c.id == bindparam("watcher_id"), watcher.c.fence == bindparam("lease_fence"))
        .values(
            state=bindparam("new_state"),
            restarts=watcher.c.restarts + bindparam("more", type_=Integer),
            last_error=func.coalesce(error, watcher.c.last_error),
            last_error_at=case((error.is_(None), watcher.c.last_error_at), else_=NOW),
            updated_at=NOW,
        )
    )


def count_event() -> Executable:
    """Keep beside a watcher its latest event, and how many it recorded in this minute and the one before."""
    now, last = bindparam("this_minute", type_=BigInteger), watcher.c.minute
    return (
        update(watcher)
        .where(watcher.c.id == bindparam("watcher_id"))
        .values(
            last_event_id=bindparam("event_id", type_=BigInteger),
            last_event_at=NOW,
            minute=now,
            minute_events=case((last == now, watcher.c.minute_events + 1), else_=1),
            minute_before=case(
                (last == now, watcher.c.minute_before), (last == now - 1, watcher.c.minute_events), else_=0
            ),
        )
    )


def list_watchers(only: bool = False) -> Executable:
    """List every watcher by asset and name, or only one, with the lease of whoever has it."""
    columns = [watcher.c.state, watcher.c.asked, watcher.c.fence, watcher.c.owner, watcher.c.restarts]
    columns += [watcher.c.last_error, watcher.c.last_error_at, watcher.c.updated_at, watcher.c.claimed_at]
    columns += [watcher.c.last_event_id, watcher.c.last_event_at]
    columns += [watcher.c.minute, watcher.c.minute_events, watcher.c.minute_before]
    writer = literal("watcher:") + asset.c.name + literal("/") + watcher.c.name
    wrote = (
        select(func.max(asset_state.c.updated_at))
        .where(asset_state.c.asset_id == watcher.c.asset_id, asset_state.c.updated_by == writer)
        .scalar_subquery()
    )
    found = (
        select(asset.c.name.label("asset_name"), watcher.c.name, *columns, wrote.label("wrote_at"))
        .add_columns(triggerer.c.heartbeat_at, NOW.label("at"))
        .join(asset, asset.c.id == watcher.c.asset_id)
        .outerjoin(triggerer, triggerer.c.id == watcher.c.triggerer_id)
        .order_by(asset.c.name, watcher.c.name)
    )
    return found.where(watcher.c.id == bindparam("watcher_id")) if only else found
