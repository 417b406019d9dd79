"""State on one connection: reads of one statement each, and commits inside a transaction that `database` began."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from ....changes import Clear, Commit, CommitResult, Delete, NewEvent, Put, RecordedEvent
from ....clock import Clock, from_microseconds, to_microseconds
from ....errors import VersionConflictError
from ....records import Lease, StoredEntry
from ....registration.deciding import inactive, lease_lost, never_expires, not_found
from ....scopes import AssetScope, Scope, TaskScope
from .. import statements
from ..dialect import sql
from ..owners import ASSET_BY, TASK, Owner

__all__ = [
    "commit",
    "delete_run",
    "get",
    "get_entry",
    "get_many",
    "list_keys",
    "locate",
    "require_asset",
]

Parameters = dict[str, Any]


def locate(scope: Scope) -> tuple[Owner, Parameters]:
    """Say how a scope's row is found, and by which parameters."""
    if isinstance(scope, TaskScope):
        return TASK, {
            "dag_id": scope.dag_id,
            "run_id": scope.run_id,
            "task_id": scope.task_id,
            "map_index": scope.map_index,
        }
    if scope.asset_id is not None:
        return ASSET_BY["id"], {"asset_id": scope.asset_id}
    if scope.uri is None:
        return ASSET_BY["name"], {"name": scope.name}
    if scope.name is None:
        return ASSET_BY["uri"], {"uri": scope.uri}
    return ASSET_BY["both"], {"name": scope.name, "uri": scope.uri}


def _read(raw: sqlite3.Connection, build: Any, scope: Scope, parameters: Parameters) -> list[tuple[Any, ...]]:
    owner, where = locate(scope)
    rows: list[tuple[Any, ...]] = raw.execute(sql(build, owner), {**where, **parameters}).fetchall()
    if isinstance(scope, AssetScope):
        if not rows:
            raise not_found(scope)
        if rows[0][0] is not None:
            raise inactive(scope)
    return rows if rows and rows[0][1] is not None else []


def get(raw: sqlite3.Connection, scope: Scope, key: str, clock: Clock) -> str | None:
    """Read the text of one key."""
    rows = _read(raw, statements.read_value, scope, {"key": key, "now": clock.microseconds()})
    return rows[0][2] if rows else None


def get_entry(raw: sqlite3.Connection, scope: Scope, key: str, clock: Clock) -> StoredEntry | None:
    """Read one key with its version and times."""
    return _entry(raw, scope, key, clock.microseconds())


def _entry(raw: sqlite3.Connection, scope: Scope, key: str, now: int) -> StoredEntry | None:
    rows = _read(raw, statements.read_entry, scope, {"key": key, "now": now})
    if not rows:
        return None
    _, _, text, version, updated_at, expires_at, updated_by = rows[0]
    expiry = None if expires_at is None else from_microseconds(expires_at)
    return StoredEntry(text, version, from_microseconds(updated_at), expiry, updated_by)


def get_many(raw: sqlite3.Connection, scope: Scope, keys: Sequence[str], clock: Clock) -> dict[str, str]:
    """Read the texts of several keys in one statement."""
    array = json.dumps(list(keys), ensure_ascii=False)
    rows = _read(raw, statements.read_many, scope, {"keys": array, "now": clock.microseconds()})
    texts = {key: text for _, key, text in rows}
    return {key: texts[key] for key in keys if key in texts}


def list_keys(
    raw: sqlite3.Connection, scope: Scope, prefix: str, after: str | None, limit: int | None, clock: Clock
) -> list[str]:
    """List the keys that begin with a prefix, behind a key."""
    parameters = {
        "low": prefix,
        "high": _behind(prefix),
        "after": after or "",
        "limit": -1 if limit is None else limit,
        "now": clock.microseconds(),
    }
    return [key for _, key in _read(raw, statements.list_keys, scope, parameters)]


def _behind(prefix: str) -> str | None:
    # The least text greater than every text with this prefix; UTF-8 sorts as code points do.
    for place in range(len(prefix) - 1, -1, -1):
        point = ord(prefix[place])
        if point < 0x10FFFF:
            following = 0xE000 if point == 0xD7FF else point + 1  # surrogates are no text
            return prefix[:place] + chr(following)
    return None


def require_asset(raw: sqlite3.Connection, scope: AssetScope) -> int:
    """Give the id of an asset that is registered and active."""
    owner, where = locate(scope)
    row = raw.execute(sql(statements.find_scope, owner), where).fetchone()
    if row is None:
        raise not_found(scope)
    if row[1] is not None:
        raise inactive(scope)
    return int(row[0])


def commit(raw: sqlite3.Connection, changes: Commit, clock: Clock) -> CommitResult:
    """Apply a commit inside a transaction that holds the write lock."""
    now = clock.microseconds()  # under the lock, so that later versions have later times
    lease = changes.lease
    if lease is not None:
        _check_lease(raw, lease)
    count = sum(type(change) is Put for change in changes.changes) + len(changes.events)
    revisions = _take_revisions(raw, count)
    versions: list[int] = []
    for change in changes.changes:
        if isinstance(change, Put):
            versions.append(_put(raw, change, revisions, changes.updated_by, now))
        else:
            _remove(raw, change)
            versions.append(0)
    events = [_record(raw, event, changes.lease, revisions, now) for event in changes.events]
    return CommitResult(from_microseconds(now), tuple(versions), tuple(events))


def _take_revisions(raw: sqlite3.Connection, count: int) -> Iterator[int]:
    # Taken together, and only when the first is needed: a refused version costs none.
    last = int(raw.execute(sql(statements.next_revisions), {"count": count}).fetchone()[0])
    yield from range(last - count + 1, last + 1)


def _check_lease(raw: sqlite3.Connection, lease: Lease) -> None:
    row = raw.execute(sql(statements.check_lease), {"watcher_id": lease.watcher_id}).fetchone()
    if row is None:
        raise not_found(lease.asset)
    if row[0] != lease.fence:
        raise lease_lost(lease, row[0])
    if row[1] is not None:
        raise inactive(lease.asset)


def _put(raw: sqlite3.Connection, put: Put, revisions: Iterator[int], updated_by: str | None, now: int) -> int:
    owner, where = locate(put.scope)
    if put.if_version is not None:
        entry = _entry(raw, put.scope, put.key, now)
        actual = 0 if entry is None else entry.version
        if actual != put.if_version:
            raise VersionConflictError(put.key, put.if_version, actual)
    version = next(revisions)
    parameters: Parameters = {
        **where,
        "key": put.key,
        "value": put.value,
        "version": version,
        "now": now,
        "updated_by": updated_by,
    }
    if owner.is_task:
        parameters["expires_at"] = None if put.expires_at is None else to_microseconds(put.expires_at)
    elif put.expires_at is not None:
        raise never_expires()
    text = sql(statements.write_value, owner)
    if raw.execute(text, parameters).rowcount:
        return version
    if isinstance(put.scope, AssetScope):
        require_asset(raw, put.scope)  # says what is wrong
    raw.execute(sql(statements.add_task_instance), {**where, "id": None})
    raw.execute(text, parameters)
    return version


def _remove(raw: sqlite3.Connection, change: Delete | Clear) -> None:
    scope = change.scope
    owner, where = locate(scope)
    if isinstance(scope, AssetScope):
        require_asset(raw, scope)
    if isinstance(change, Delete):
        deleted = raw.execute(sql(statements.delete_value, owner), {**where, "key": change.key}).rowcount
        if deleted and owner.is_task:
            raw.execute(sql(statements.drop_task_instance_if_empty), where)
    elif not owner.is_task:
        raw.execute(sql(statements.clear_asset, owner), where)
    elif change.all_map_indices:
        raw.execute(sql(statements.drop_mapped_instances), where)
    else:
        raw.execute(sql(statements.drop_task_instance), where)


def _record(
    raw: sqlite3.Connection, event: NewEvent, lease: Lease | None, revisions: Iterator[int], now: int
) -> RecordedEvent:
    assert lease is not None  # noqa: S101 - Commit refuses events without one
    parameters: Parameters = {"watcher_id": lease.watcher_id, "key": event.key}
    if event.key is not None:
        first = raw.execute(sql(statements.find_event_key), parameters).fetchone()
        if first is not None:
            return RecordedEvent(first[0], duplicate=True)
    event_id = next(revisions)
    if event.key is not None:
        raw.execute(sql(statements.add_event_key), {**parameters, "event_id": event_id})
    parameters |= {"id": event_id, "asset_id": lease.asset.asset_id, "payload": event.payload, "created_at": now}
    raw.execute(sql(statements.add_event), parameters)
    return RecordedEvent(event_id)


def delete_run(raw: sqlite3.Connection, dag_id: str, run_id: str) -> int:
    """Delete the state of a run; gives how many rows went."""
    where = {"dag_id": dag_id, "run_id": run_id}
    count = int(raw.execute(sql(statements.count_run), where).fetchone()[0])
    raw.execute(sql(statements.drop_run), where)
    return count
