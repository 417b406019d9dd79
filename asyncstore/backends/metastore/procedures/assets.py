"""Assets, watchers and the event log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ....clock import from_microseconds
from ....records import AssetRecord, Event, Lease, WatcherRecord, WatcherState
from ....registration.deciding import Registered, not_found, registration
from ....scopes import Asset, AssetScope
from ....values import JsonValue, decode
from .. import statements
from ..steps import Now, Procedure, ask
from .state import locate, require_asset

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


def _record(row: Sequence[Any]) -> AssetRecord:
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


def get_asset(scope: AssetScope) -> Procedure[AssetRecord]:
    """Read a registration."""
    owner, where = locate(scope)
    rows, _ = yield ask(statements.assets.read_asset, owner, **where)
    if not rows:
        raise not_found(scope)
    return _record(rows[0])


def find_asset(asset: Asset) -> Procedure[AssetScope | None]:
    """Find the registration of an asset, if it is complete: the everyday case, which writes nothing."""
    name, uri = asset.explicit_name, asset.explicit_uri
    if name is None:
        found = yield from _registered(statements.assets.read_asset_by_uri, uri=uri)
    else:
        found = yield from _registered(statements.assets.read_asset_by_name, name=name)
        if found is not None and (not found.named or (uri is not None and found.uri != uri)):
            return None
    return None if found is None else found.scope


def register_asset(asset: Asset, now: Now) -> Procedure[AssetScope]:
    """Find an asset, complete it, or register it."""
    by_name = yield from _registered(statements.assets.read_asset_by_name, name=asset.name)
    by_uri = yield from _registered(statements.assets.read_asset_by_uri, uri=asset.explicit_uri)
    wanted = registration(asset, by_name, by_uri)
    if not wanted.id:
        return (yield from _add(asset, now))
    if wanted not in (by_name, by_uri):
        new = {"asset_id": wanted.id, "new_name": wanted.name, "new_uri": wanted.uri, "new_named": wanted.named}
        yield ask(statements.assets.complete_asset, **new)
    return wanted.scope


def _registered(build: Any, **where: str | None) -> Procedure[Registered | None]:
    rows, _ = yield ask(build, **where)
    return Registered(rows[0][0], rows[0][1], rows[0][2], bool(rows[0][3])) if rows else None


def _add(asset: Asset, now: Now) -> Procedure[AssetScope]:
    rows, _ = yield ask(
        statements.assets.add_asset,
        name=asset.name,
        uri=asset.explicit_uri,
        named=asset.explicit_name is not None,
        group_name=asset.group,
        extra=asset.extra_json,
        now=now(),
    )
    return AssetScope(rows[0][0], asset.name, asset.explicit_uri)


def set_active(scope: AssetScope, active: bool, now: Now) -> Procedure[None]:
    """Activate or deactivate an asset."""
    owner, where = locate(scope)
    if active:
        answer = yield ask(statements.assets.set_activated, owner, **where)
    else:
        answer = yield ask(statements.assets.set_deactivated, owner, **where, now=now())
    if not answer.touched:
        raise not_found(scope)


def delete_asset(scope: AssetScope) -> Procedure[None]:
    """Delete an asset with everything that hangs on it."""
    owner, where = locate(scope)
    if not (yield ask(statements.assets.drop_asset, owner, **where)).touched:
        raise not_found(scope)


def sweep_assets(grace: int, dry_run: bool, now: Now) -> Procedure[list[tuple[str, int]]]:
    """Delete the state of assets deactivated for so many microseconds; gives their names and how many rows."""
    rows, _ = yield ask(statements.assets.list_rested_assets, grace=grace, now=now())
    if not dry_run:
        for asset_id, _, _ in rows:
            owner, where = locate(AssetScope(asset_id))
            yield ask(statements.state.clear_asset, owner, **where)
    return [(name, count) for _, name, count in rows]


def claim_watcher(asset: AssetScope, name: str, owner: str, now: Now) -> Procedure[Lease]:
    """Claim a watcher with a new fencing number."""
    asset_id = yield from require_asset(asset)
    rows, _ = yield ask(
        statements.watchers.claim_watcher,
        asset_id=asset_id,
        name=name,
        fence=1,
        owner=owner,
        state=WatcherState.RUNNING.value,
        restarts=0,
        now=now(),
    )
    record = yield from get_asset(AssetScope(asset_id))
    return Lease(rows[0][0], rows[0][1], record.scope, name)


def report_watcher(lease: Lease, state: WatcherState, error: str | None, restarted: bool, now: Now) -> Procedure[None]:
    """Keep what a watcher is doing, while the lease holds."""
    if error is not None:  # a traceback may show bytes that are no text, as lone surrogates
        error = error.encode(errors="backslashreplace").decode()
    yield ask(
        statements.watchers.report_watcher,
        watcher_id=lease.watcher_id,
        lease_fence=lease.fence,
        new_state=state.value,
        more=int(restarted),
        error=error,
        now=now(),
    )


def list_watchers() -> Procedure[list[WatcherRecord]]:
    """List every watcher."""
    rows, _ = yield ask(statements.watchers.list_watchers)
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
        for asset, name, state, fence, owner, restarts, last_error, last_error_at, updated_at in rows
    ]


def list_events(scope: AssetScope | None, after: int, limit: int | None) -> Procedure[list[Event]]:
    """List events behind an id."""
    # Beyond what a database can count there is nothing.
    parameters: dict[str, Any] = {
        "after": min(after, _LARGEST),
        "limit": None if limit is None else min(limit, _LARGEST),
    }
    if scope is not None:
        owner, where = locate(scope)
        found, _ = yield ask(statements.state.find_scope, owner, **where)
        if not found:
            raise not_found(scope)
        parameters["asset_id"] = found[0][0]
    rows, _ = yield ask(statements.events.list_events, scope is not None, **parameters)
    return [
        Event(event_id, asset, watcher, decode(payload), key, from_microseconds(created_at))
        for event_id, asset, watcher, payload, key, created_at in rows
    ]
