"""A commit where one transaction at a time may write, as on SQLite: statement by statement, under the write lock."""

from __future__ import annotations

from collections.abc import Iterator

from ....changes import Clear, Commit, CommitResult, Delete, NewEvent, Put, RecordedEvent
from ....clock import from_microseconds, to_microseconds
from ....errors import VersionConflictError
from ....records import Lease
from ....registration.deciding import inactive, lease_lost, never_expires, not_found
from ....scopes import AssetScope
from .. import statements
from ..steps import Procedure, ask
from .state import Parameters, get_entry, locate, require_asset

__all__ = ["commit", "revisions_of", "take_revisions"]


def revisions_of(changes: Commit) -> int:
    """Tell how many revisions a commit takes at most."""
    return sum(type(change) is Put for change in changes.changes) + len(changes.events)


def take_revisions(count: int) -> Procedure[Iterator[int]]:
    """Take revisions from the counter, the least first."""
    rows, _ = yield ask(statements.next_revisions, count=count)
    last = int(rows[0][0])
    return iter(range(last - count + 1, last + 1))


def commit(changes: Commit, now: int, revisions: Iterator[int] | None = None) -> Procedure[CommitResult]:
    """Apply a commit; where it raises, the caller must undo what it did.

    :param changes: the commit.
    :param now: the time in microseconds, read under the write lock, so that later versions have later times.
    :param revisions: taken before, as many as `revisions_of` says; None to take them here.
    """
    lease = changes.lease
    if lease is not None:
        yield from _check_lease(lease)
    if revisions is None:
        count = revisions_of(changes)
        revisions = (yield from take_revisions(count)) if count else iter(())
    versions: list[int] = []
    for change in changes.changes:
        if isinstance(change, Put):
            versions.append((yield from _put(change, revisions, changes.updated_by, now)))
        else:
            yield from _remove(change)
            versions.append(0)
    events: list[RecordedEvent] = []
    for event in changes.events:
        events.append((yield from _record(event, changes.lease, revisions, now)))
    return CommitResult(from_microseconds(now), tuple(versions), tuple(events))


def _check_lease(lease: Lease) -> Procedure[None]:
    rows, _ = yield ask(statements.check_lease, watcher_id=lease.watcher_id)
    if not rows:
        raise not_found(lease.asset)
    fence, deactivated_at = rows[0]
    if fence != lease.fence:
        raise lease_lost(lease, fence)
    if deactivated_at is not None:
        raise inactive(lease.asset)


def _put(put: Put, revisions: Iterator[int], updated_by: str | None, now: int) -> Procedure[int]:
    owner, where = locate(put.scope)
    if put.if_version is not None:
        entry = yield from get_entry(put.scope, put.key, lambda: now)
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
    write = ask(statements.write_value, owner, **parameters)
    if (yield write).count:
        return version
    if isinstance(put.scope, AssetScope):
        yield from require_asset(put.scope)  # says what is wrong
    yield ask(statements.add_task_instance, **where)
    yield write
    return version


def _remove(change: Delete | Clear) -> Procedure[None]:
    scope = change.scope
    owner, where = locate(scope)
    if isinstance(scope, AssetScope):
        yield from require_asset(scope)
    if isinstance(change, Delete):
        deleted = (yield ask(statements.delete_value, owner, **where, key=change.key)).count
        if deleted and owner.is_task:
            yield ask(statements.drop_task_instance_if_empty, **where)
    elif not owner.is_task:
        yield ask(statements.clear_asset, owner, **where)
    elif change.all_map_indices:
        yield ask(statements.drop_mapped_instances, **where)
    else:
        yield ask(statements.drop_task_instance, **where)


def _record(event: NewEvent, lease: Lease | None, revisions: Iterator[int], now: int) -> Procedure[RecordedEvent]:
    assert lease is not None  # noqa: S101 - Commit refuses events without one
    watcher_id = lease.watcher_id
    if event.key is not None:
        rows, _ = yield ask(statements.find_event_key, watcher_id=watcher_id, key=event.key)
        if rows:
            return RecordedEvent(rows[0][0], duplicate=True)
    event_id = next(revisions)
    if event.key is not None:
        yield ask(statements.add_event_key, watcher_id=watcher_id, key=event.key, event_id=event_id)
    yield ask(
        statements.add_event,
        id=event_id,
        asset_id=lease.asset.asset_id,
        watcher_id=watcher_id,
        payload=event.payload,
        key=event.key,
        created_at=now,
    )
    return RecordedEvent(event_id)
