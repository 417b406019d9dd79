"""Assets, and the log of events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ....clock import from_microseconds
from ....records import AssetRecord, Event
from ....registration.deciding import Registered, not_found, registration
from ....scopes import Asset, AssetScope
from ....values import JsonValue, decode
from .. import statements
from ..steps import Now, Procedure, Step, ask, tells
from .state import locate

__all__ = [
    "delete_asset",
    "find_asset",
    "find_assets",
    "get_asset",
    "list_events",
    "record",
    "register_asset",
    "register_assets",
    "set_active",
    "sweep_assets",
]

_LARGEST = 2**63 - 1


def record(row: Sequence[Any]) -> AssetRecord:
    """Give the registration that a row holds."""
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
    return record(rows[0])


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
        yield _complete(wanted)
    return wanted.scope


def find_assets(assets: Sequence[Asset]) -> Procedure[list[AssetScope | None]]:
    """Find the registrations of assets; None for each that is not complete."""
    by_name, by_uri = yield from _all_registered(assets)
    found: list[AssetScope | None] = []
    for asset in assets:
        name, uri = asset.explicit_name, asset.explicit_uri
        each = by_uri.get(uri) if name is None else by_name.get(name)
        complete = each is not None and (name is None or (each.named and uri in {None, each.uri}))
        found.append(each.scope if each is not None and complete else None)
    return found


@tells()
def register_assets(assets: Sequence[Asset], now: Now) -> Procedure[list[AssetScope]]:
    """Find, complete or register assets."""
    by_name, by_uri = yield from _all_registered(assets)
    found: list[AssetScope] = []
    for asset in assets:
        uri = asset.explicit_uri
        wanted = registration(asset, by_name.get(asset.name), by_uri.get(uri))
        if not wanted.id:
            scope = yield from _add(asset, now)
            wanted = replace(wanted, id=scope.asset_id or 0)
        elif wanted not in (by_name.get(asset.name), by_uri.get(uri)):
            yield _complete(wanted)
        by_name[wanted.name] = wanted
        if wanted.uri is not None:
            by_uri[wanted.uri] = wanted
        found.append(wanted.scope)
    return found


def _complete(wanted: Registered) -> Step:
    new = {"asset_id": wanted.id, "new_name": wanted.name, "new_uri": wanted.uri, "new_named": wanted.named}
    return ask(statements.assets.complete_asset, **new)


def _all_registered(
    assets: Sequence[Asset],
) -> Procedure[tuple[dict[str | None, Registered], dict[str | None, Registered]]]:
    names = sorted({asset.name for asset in assets})
    uris = sorted({asset.explicit_uri for asset in assets if asset.explicit_uri is not None})
    rows, _ = yield ask(statements.assets.find_assets, names=names)
    by_name: dict[str | None, Registered] = {row[1]: Registered(row[0], row[1], row[2], bool(row[3])) for row in rows}
    rows, _ = yield ask(statements.assets.find_assets_by_uri, uris=uris)
    by_uri: dict[str | None, Registered] = {row[2]: Registered(row[0], row[1], row[2], bool(row[3])) for row in rows}
    return by_name, by_uri


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
