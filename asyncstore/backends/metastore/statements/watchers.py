"""Watchers: who holds which, and what it is doing."""

from __future__ import annotations

from sqlalchemy import Executable, Integer, Text, bindparam, case, func, select, update

from .. import dialect
from ..dialect import NOW
from ..schema import asset, watcher

__all__ = ["check_lease", "claim_watcher", "list_watchers", "report_watcher"]


def claim_watcher() -> Executable:
    """Claim a watcher with the next fencing number; gives its id and the number."""
    columns = [watcher.c.asset_id, watcher.c.name, watcher.c.fence, watcher.c.owner, watcher.c.state]
    columns += [watcher.c.restarts, watcher.c.updated_at]
    return dialect.claim(watcher, columns, {"updated_at": NOW}).returning(watcher.c.id, watcher.c.fence)


def check_lease() -> Executable:
    """Read the fencing number of a watcher, and since when its asset is inactive."""
    return (
        select(watcher.c.fence, asset.c.deactivated_at)
        .join(asset, asset.c.id == watcher.c.asset_id)
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


def list_watchers() -> Executable:
    """List every watcher by asset and name."""
    columns = [watcher.c.state, watcher.c.fence, watcher.c.owner, watcher.c.restarts, watcher.c.last_error]
    columns += [watcher.c.last_error_at, watcher.c.updated_at]
    return (
        select(asset.c.name.label("asset_name"), watcher.c.name, *columns)
        .join(asset, asset.c.id == watcher.c.asset_id)
        .order_by(asset.c.name, watcher.c.name)
    )
