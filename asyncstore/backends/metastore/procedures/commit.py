"""A commit where one transaction at a time may write, as on SQLite: statement by statement, under the write lock."""

from __future__ import annotations

from collections.abc import Callable

from ....changes import Clear, Commit, CommitResult, Delete, NewEvent, Put, RecordedEvent
from ....clock import from_microseconds, to_microseconds
from ....errors import VersionConflictError
from ....records import Lease
from ....registration.deciding import inactive, lease_expired, lease_lost, never_expires, not_found
from ....scopes import AssetScope
from .. import statements
from ..steps import Procedure, ask
from .state import Parameters, get_entry, locate, require_asset

__all__ = ["Revisions", "commit", "commit_beside", "most_revisions"]


#: Revisions taken beyond what is needed, where nobody else takes any: a counter that does not move costs no page.
_BLOCK = 1000
#: In microseconds.
_MINUTE = 60_000_000


class Revisions:
    """Hand out revisions, for one transaction after the other.

    Revisions grow in the order of commits, whoever makes them. So those that were taken ahead may be handed out only
    while nobody took any behind them, which is checked under the write lock.
    """

    __slots__ = ("_alone", "_count", "_end", "_next", "reserved")

    def __init__(self, count: int = 0) -> None:
        self.begin(count)
        self.forget()

    def begin(self, count: int) -> None:
        """Begin a transaction.

        :param count: how many it needs at most.
        """
        self._count = count
        #: Whether those of the transaction are at hand.
        self.reserved = False

    def forget(self) -> None:
        """Forget those that were taken ahead: a transaction was undone."""
        self._next, self._end = 1, 0
        self._alone = False

    @property
    def last(self) -> int | None:
        """Return the last one taken ahead, None where there is none left."""
        return self._end if self._next <= self._end else None

    def reserve(self) -> Procedure[None]:
        """Have as many as are needed at hand."""
        if self._next + self._count - 1 <= self._end:
            rows, _ = yield ask(statements.transactions.last_revision)
            if rows[0][0] == self._end:
                self.reserved = True
                return
        # Whoever finds the counter where it was left is alone, and takes more at the next time.
        count = self._count + (_BLOCK if self._alone else 0)
        rows, _ = yield ask(statements.transactions.next_revisions, count=count)
        before, self._end = self._end, int(rows[0][0])
        self._next = self._end - count + 1
        self._alone = self._next == before + 1
        self.reserved = True

    def next(self) -> int:
        """Give the next one."""
        found = self._next
        self._next = found + 1
        return found


def most_revisions(changes: Commit) -> int:
    """Tell how many revisions a commit takes at most."""
    return len(changes.changes) + len(changes.events)


def commit(
    changes: Commit, now: int, revisions: Revisions | None = None, *, cascades: bool = True
) -> Procedure[CommitResult]:
    """Apply a commit; where it raises, the caller must undo what it did.

    :param changes: the commit.
    :param now: the time in microseconds, read under the write lock, so that later versions have later times.
    :param revisions: of the transaction; None for those of a transaction of the caller's.
    :param cascades: the connection heeds foreign keys, which SQLite leaves to whoever opens it.
    """
    lease = changes.lease
    if lease is not None:
        yield from _check_lease(lease, now)
    if revisions is None:
        revisions = Revisions(most_revisions(changes))
    versions: list[int] = []
    for change in changes.changes:
        if isinstance(change, Put):
            versions.append((yield from _put(change, revisions, changes.updated_by, now)))
        else:
            yield from _remove(change, cascades=cascades)
            versions.append(0)
    events: list[RecordedEvent] = []
    for event in changes.events:
        recorded = yield from _record(event, changes.lease, revisions, now)
        events.append(recorded)
    return CommitResult(from_microseconds(now), tuple(versions), tuple(events))


def commit_beside(changes: Commit, now: Callable[[], int]) -> Procedure[CommitResult]:
    """Apply a commit inside a transaction of the caller's, wholly or not at all.

    :param changes: the commit.
    :param now: tells the time in microseconds.
    """
    # Nobody else may write between what is checked and what is written; and a savepoint outside of a transaction would
    # be one by itself.
    yield ask(statements.transactions.hold_revision)
    yield ask(statements.transactions.savepoint)
    try:
        done = yield from commit(changes, now(), cascades=False)
    except Exception:
        yield ask(statements.transactions.undo_to_savepoint)
        yield ask(statements.transactions.release_savepoint)
        raise
    yield ask(statements.transactions.release_savepoint)
    return done


def _revision(revisions: Revisions) -> Procedure[int]:
    if not revisions.reserved:
        yield from revisions.reserve()
    return revisions.next()


def _check_lease(lease: Lease, now: int) -> Procedure[None]:
    rows, _ = yield ask(statements.watchers.check_lease, watcher_id=lease.watcher_id, now=now)
    if not rows:
        raise not_found(lease.asset)
    fence, deactivated_at, holder, remaining = rows[0]
    if fence != lease.fence:
        raise lease_lost(lease, fence)
    if holder is not None and (remaining is None or remaining <= 0):
        raise lease_expired(lease)
    if deactivated_at is not None:
        raise inactive(lease.asset)


def _put(put: Put, revisions: Revisions, updated_by: str | None, now: int) -> Procedure[int]:
    owner, where = locate(put.scope)
    if put.if_version is not None:
        entry = yield from get_entry(put.scope, put.key, lambda: now)
        actual = 0 if entry is None else entry.version
        if actual != put.if_version:
            raise VersionConflictError(put.key, put.if_version, actual)
    if put.expires_at is not None and not owner.is_task:
        raise never_expires()
    version = yield from _revision(revisions)
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
    write = ask(statements.state.write_value, owner, **parameters)
    if (yield write).touched:
        return version
    if isinstance(put.scope, AssetScope):
        yield from require_asset(put.scope)  # says what is wrong
    yield ask(statements.state.add_task_instance, **where)
    yield write
    return version


def _remove(change: Delete | Clear, *, cascades: bool) -> Procedure[None]:
    scope = change.scope
    owner, where = locate(scope)
    if isinstance(scope, AssetScope):
        yield from require_asset(scope)
    if isinstance(change, Delete):
        deleted = (yield ask(statements.state.delete_value, owner, **where, key=change.key)).touched
        if deleted and owner.is_task:
            yield ask(statements.state.drop_task_instance_if_empty, **where)
    elif not owner.is_task:
        yield ask(statements.state.clear_asset, owner, **where)
    elif change.all_map_indices:
        if not cascades:
            yield ask(statements.state.clear_mapped_instances, **where)
        yield ask(statements.state.drop_mapped_instances, **where)
    else:
        if not cascades:
            yield ask(statements.state.clear_task_instance, **where)
        yield ask(statements.state.drop_task_instance, **where)


def _record(event: NewEvent, lease: Lease | None, revisions: Revisions, now: int) -> Procedure[RecordedEvent]:
    assert lease is not None  # noqa: S101 - Commit refuses events without one
    watcher_id = lease.watcher_id
    if event.key is not None:
        rows, _ = yield ask(statements.events.find_event_key, watcher_id=watcher_id, key=event.key)
        if rows:
            return RecordedEvent(rows[0][0], duplicate=True)
    event_id = yield from _revision(revisions)
    if event.key is not None:
        yield ask(statements.events.add_event_key, watcher_id=watcher_id, key=event.key, event_id=event_id)
    yield ask(
        statements.events.add_event,
        id=event_id,
        asset_id=lease.asset.asset_id,
        watcher_id=watcher_id,
        payload=event.payload,
        key=event.key,
        created_at=now,
    )
    minute = now // _MINUTE
    yield ask(statements.watchers.count_event, watcher_id=watcher_id, event_id=event_id, this_minute=minute, now=now)
    return RecordedEvent(event_id)
