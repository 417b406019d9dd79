"""Assets, watchers and the event log on one connection."""

from __future__ import annotations

import sqlite3
from typing import Any

from ....clock import Clock, from_microseconds
from ....records import AssetRecord, Event, Lease, WatcherRecord, WatcherState
from ....registration.deciding import Registered, not_found, registration
from ....scopes import Asset, AssetScope
from ....values import JsonValue, decode
from .. import statements
from ..dialect import sql
from .operations import locate, require_asset

__all__ = [
    "claim_watcher",
    "delete_asset",
    "find_asset",
    "get_asset",
    "list_events",
    "list_watchers",
    "register_asset",
    "report_watcher",
    "set_active",
    "sweep_assets",
]

_LARGEST = 2**63 - 1


def _record(row: tuple[Any, ...]) -> AssetRecord:
    asset_id, name, uri, _, group, extra, created_at, deactivated_at = row
    facts: JsonValue = decode(extra)
    return AssetRecord(
        scope=AssetScope(asset_id, name, uri),
        name=name,
        uri=name if uri is None else uri,
        group=group,
        extra=facts if isinstance(facts, dict) else {},
        created_at=from_microseconds(created_at),
        deactivated_at=None if deactivated_at is None else from_microseconds(deactivated_at),
    )


def get_asset(raw: sqlite3.Connection, scope: AssetScope) -> AssetRecord:
    """Read a registration."""
    owner, where = locate(scope)
    row = raw.execute(sql(statements.read_asset, owner), where).fetchone()
    if row is None:
        raise not_found(scope)
    return _record(row)


def find_asset(raw: sqlite3.Connection, asset: Asset) -> AssetScope | None:
    """Find the registration of an asset, if it is complete: the everyday case, which writes nothing."""
    name, uri = asset.explicit_name, asset.explicit_uri
    if name is None:
        found = _registered(raw, statements.read_asset_by_uri, {"uri": uri})
    else:
        found = _registered(raw, statements.read_asset_by_name, {"name": name})
        if found is not None and (not found.named or (uri is not None and found.uri != uri)):
            return None
    return None if found is None else found.scope


def register_asset(raw: sqlite3.Connection, asset: Asset, clock: Clock) -> AssetScope:
    """Find an asset, complete it, or register it."""
    by_name = _registered(raw, statements.read_asset_by_name, {"name": asset.name})
    by_uri = _registered(raw, statements.read_asset_by_uri, {"uri": asset.explicit_uri})
    wanted = registration(asset, by_name, by_uri)
    if not wanted.id:
        return _add(raw, asset, clock.microseconds())
    if wanted not in (by_name, by_uri):
        new = {"asset_id": wanted.id, "new_name": wanted.name, "new_uri": wanted.uri, "new_named": wanted.named}
        raw.execute(sql(statements.complete_asset), new)
    return wanted.scope


def _registered(raw: sqlite3.Connection, build: Any, where: dict[str, Any]) -> Registered | None:
    row = raw.execute(sql(build), where).fetchone()
    return None if row is None else Registered(row[0], row[1], row[2], bool(row[3]))


def _add(raw: sqlite3.Connection, asset: Asset, now: int) -> AssetScope:
    row = raw.execute(
        sql(statements.add_asset),
        {
            "id": None,
            "name": asset.name,
            "uri": asset.explicit_uri,
            "named": asset.explicit_name is not None,
            "group_name": asset.group,
            "extra": asset.extra_json,
            "created_at": now,
            "deactivated_at": None,
        },
    ).fetchall()
    return AssetScope(row[0][0], asset.name, asset.explicit_uri)


def set_active(raw: sqlite3.Connection, scope: AssetScope, active: bool, clock: Clock) -> None:
    """Activate or deactivate an asset."""
    owner, where = locate(scope)
    if active:
        changed = raw.execute(sql(statements.set_activated, owner), where).rowcount
    else:
        where = {**where, "deactivated_at": clock.microseconds()}
        changed = raw.execute(sql(statements.set_deactivated, owner), where).rowcount
    if not changed:
        raise not_found(scope)


def delete_asset(raw: sqlite3.Connection, scope: AssetScope) -> None:
    """Delete an asset with everything that hangs on it."""
    owner, where = locate(scope)
    if not raw.execute(sql(statements.drop_asset, owner), where).rowcount:
        raise not_found(scope)


def sweep_assets(raw: sqlite3.Connection, before: int, dry_run: bool) -> list[tuple[str, int]]:
    """Delete the state of assets deactivated at a time or earlier; gives their names and how many rows."""
    rows = raw.execute(sql(statements.list_rested_assets), {"before": before}).fetchall()
    if not dry_run:
        for asset_id, _, _ in rows:
            owner, where = locate(AssetScope(asset_id))
            raw.execute(sql(statements.clear_asset, owner), where)
    return [(name, count) for _, name, count in rows]


def claim_watcher(raw: sqlite3.Connection, asset: AssetScope, name: str, owner: str, clock: Clock) -> Lease:
    """Claim a watcher with a new fencing number."""
    asset_id = require_asset(raw, asset)
    parameters = {
        "asset_id": asset_id,
        "name": name,
        "fence": 1,
        "owner": owner,
        "state": WatcherState.RUNNING.value,
        "restarts": 0,
        "updated_at": clock.microseconds(),
    }
    row = raw.execute(sql(statements.claim_watcher), parameters).fetchall()[0]
    record = get_asset(raw, AssetScope(asset_id))
    return Lease(row[0], row[1], record.scope, name)


def report_watcher(
    raw: sqlite3.Connection, lease: Lease, state: WatcherState, error: str | None, restarted: bool, clock: Clock
) -> None:
    """Keep what a watcher is doing, while the lease holds."""
    now = clock.microseconds()
    if error is not None:  # a traceback may show bytes that are no text, as lone surrogates
        error = error.encode(errors="backslashreplace").decode()
    parameters = {
        "watcher_id": lease.watcher_id,
        "lease_fence": lease.fence,
        "new_state": state.value,
        "more": int(restarted),
        "error": error,
        "error_at": None if error is None else now,
        "now": now,
    }
    raw.execute(sql(statements.report_watcher), parameters)


def list_watchers(raw: sqlite3.Connection) -> list[WatcherRecord]:
    """List every watcher."""
    return [
        WatcherRecord(
            asset=asset,
            name=name,
            state=WatcherState(state),
            fence=fence,
            owner=owner,
            restarts=restarts,
            last_error=last_error,
            last_error_at=None if last_error_at is None else from_microseconds(last_error_at),
            updated_at=from_microseconds(updated_at),
        )
        for asset, name, state, fence, owner, restarts, last_error, last_error_at, updated_at in raw.execute(
            sql(statements.list_watchers)
        ).fetchall()
    ]


def list_events(raw: sqlite3.Connection, scope: AssetScope | None, after: int, limit: int | None) -> list[Event]:
    """List events behind an id."""
    # Beyond what SQLite can count there is nothing.
    parameters: dict[str, Any] = {"after": min(after, _LARGEST), "limit": -1 if limit is None else min(limit, _LARGEST)}
    if scope is not None:
        owner, where = locate(scope)
        found = raw.execute(sql(statements.find_scope, owner), where).fetchone()
        if found is None:
            raise not_found(scope)
        parameters["asset_id"] = found[0]
    rows = raw.execute(sql(statements.list_events, of_asset=scope is not None), parameters).fetchall()
    return [
        Event(event_id, asset, watcher, decode(payload), key, from_microseconds(created_at))
        for event_id, asset, watcher, payload, key, created_at in rows
    ]
