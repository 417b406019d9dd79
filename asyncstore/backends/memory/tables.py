"""What the in-memory backend holds, and commits on it. The backend holds the lock around every call."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice

from ...changes import Change, Clear, Commit, CommitResult, NewEvent, Put, RecordedEvent
from ...clock import Clock, from_microseconds, to_microseconds
from ...errors import VersionConflictError
from ...records import Event, ExpiredRow, Lease, StoredEntry, WatcherOrder, WatcherState
from ...registration.deciding import (
    Registered,
    inactive,
    lease_expired,
    lease_lost,
    never_expires,
    not_found,
    registration,
)
from ...scopes import Asset, AssetScope, Scope, TaskScope
from ...values import REFERENCE_MARKS, decode
from .consumers import HeldConsumer

__all__ = ["HeldAsset", "HeldMember", "HeldWatcher", "Tables"]

Rows = dict[str, StoredEntry]
Undo = list[Callable[[], object]]


@dataclass(slots=True)
class HeldAsset:
    """Hold an asset and its state."""

    registered: Registered
    group: str
    extra: str
    created_at: datetime
    deactivated_at: datetime | None = None
    rows: Rows = field(default_factory=dict[str, StoredEntry])


@dataclass(slots=True)
class HeldWatcher:
    """Hold a watcher, and the keys of its events.

    :ivar holder: the triggerer that has it; None where none does.
    :ivar event: the id and time of its latest event.
    """

    id: int
    asset_id: int
    name: str
    updated_at: datetime
    state: WatcherState = WatcherState.WAITING
    asked: WatcherOrder | None = None
    fence: int = 0
    owner: str = ""
    holder: int | None = None
    restarts: int = 0
    last_error: str | None = None
    last_error_at: datetime | None = None
    claimed_at: datetime | None = None
    event: tuple[int, datetime] | None = None
    keys: dict[str, int] = field(default_factory=dict[str, int])

    def leave(self, state: WatcherState, now: datetime) -> None:
        """Be nobody's any more."""
        self.fence += 1
        self.holder = self.asked = None
        self.state, self.updated_at = state, now


@dataclass(slots=True)
class HeldMember:
    """Hold a triggerer."""

    id: int
    owner: str
    token: str
    process: str | None
    capacity: int
    declares: str
    started_at: datetime
    beat_at: datetime
    lease_until: datetime
    draining: bool = False


@dataclass(frozen=True, slots=True)
class HeldEvent:
    """Hold an event, its payload as text: each reader gets an object of its own."""

    id: int
    asset_id: int
    watcher: str
    payload: str
    key: str | None
    created_at: datetime


class Tables:
    """Hold everything.

    :param clock: tells when values expire.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.tasks: dict[TaskScope, Rows] = {}
        self.assets: dict[int, HeldAsset] = {}
        self.watchers: dict[int, HeldWatcher] = {}
        self.members: dict[int, HeldMember] = {}
        self.declarations: dict[str, set[int]] = {}
        self._places: dict[tuple[int, str], HeldWatcher] = {}
        self.consumers: dict[int, HeldConsumer] = {}
        self._events: list[HeldEvent] = []
        #: References that rows hold no more, by the order in which they were let go of.
        self.leftovers: dict[int, str] = {}
        self._revision = 0
        self._last_id = 0
        self._last_leftover = 0

    def now(self) -> datetime:
        """Tell the time."""
        return from_microseconds(self.clock.microseconds())

    def new_id(self) -> int:
        """Give an id that was never used."""
        self._last_id += 1
        return self._last_id

    def fresh(self, entry: StoredEntry | None) -> StoredEntry | None:
        """Give an entry unless it has expired."""
        if entry is None or entry.expires_at is None:
            return entry
        return entry if to_microseconds(entry.expires_at) > self.clock.microseconds() else None

    def rows(self, scope: Scope) -> Rows:
        """Give the rows of a scope."""
        if isinstance(scope, TaskScope):
            return self.tasks.get(scope, {})
        found = self.find(scope)
        if found.deactivated_at is not None:
            raise inactive(scope)
        return found.rows

    def find(self, scope: AssetScope) -> HeldAsset:
        """Find an asset."""
        if scope.asset_id is not None:
            found = self.assets.get(scope.asset_id)
        elif scope.name is not None:
            found = self._first(lambda each: each.name == scope.name and scope.uri in {None, each.uri or each.name})
        else:
            # An asset known by its name alone has that for its URI; one that was given the URI comes first.
            found = self._first(lambda each: each.uri == scope.uri)
            found = found or self._first(lambda each: each.uri is None and each.name == scope.uri)
        if found is None:
            raise not_found(scope)
        return found

    def _first(self, test: Callable[[Registered], bool]) -> HeldAsset | None:
        return next((each for each in self.assets.values() if test(each.registered)), None)

    def register(self, asset: Asset) -> AssetScope:
        """Find, complete or register an asset."""
        uri = asset.explicit_uri
        by_name = self._first(lambda each: each.name == asset.name)
        by_uri = None if uri is None else self._first(lambda each: each.uri == uri)
        wanted = registration(
            asset, None if by_name is None else by_name.registered, None if by_uri is None else by_uri.registered
        )
        if wanted.id:
            self.assets[wanted.id].registered = wanted
        else:
            wanted = replace(wanted, id=self.new_id())
            self.assets[wanted.id] = HeldAsset(wanted, asset.group, asset.extra_json, self.now())
        return wanted.scope

    def commit(self, commit: Commit) -> CommitResult:
        """Make every change and record every event, or nothing."""
        if commit.lease is not None:
            self._check(commit.lease)
        undo: Undo = []
        try:
            versions = tuple(self._apply(change, commit.updated_by, undo) for change in commit.changes)
        except BaseException:
            for step in reversed(undo):
                step()
            raise
        events = tuple(self._record(event, commit.lease) for event in commit.events)
        return CommitResult(self.now(), versions, events)

    def _apply(self, change: Change, updated_by: str | None, undo: Undo) -> int:
        if isinstance(change, Put):
            return self._put(change, updated_by, undo)
        for scope in self._touched(change):
            rows = self.rows(scope)
            for key in list(rows) if isinstance(change, Clear) else [change.key]:
                self._write(scope, rows, key, None, undo)
        return 0

    def _touched(self, change: Change) -> list[Scope]:
        scope = change.scope
        if isinstance(change, Clear) and change.all_map_indices and isinstance(scope, TaskScope):
            task = (scope.dag_id, scope.run_id, scope.task_id)
            return [each for each in self.tasks if (each.dag_id, each.run_id, each.task_id) == task]
        return [scope]

    def _put(self, put: Put, updated_by: str | None, undo: Undo) -> int:
        rows = self.rows(put.scope)
        if isinstance(put.scope, AssetScope) and put.expires_at is not None:
            raise never_expires()
        if put.if_version is not None:
            entry = self.fresh(rows.get(put.key))
            actual = 0 if entry is None else entry.version
            if actual != put.if_version:
                raise VersionConflictError(put.key, put.if_version, actual)
        self._revision += 1
        expiry = None if put.expires_at is None else from_microseconds(to_microseconds(put.expires_at))
        entry = StoredEntry(put.value, self._revision, self.now(), expiry, updated_by)
        self._write(put.scope, rows, put.key, entry, undo)
        return self._revision

    def _write(self, scope: Scope, rows: Rows, key: str, entry: StoredEntry | None, undo: Undo) -> None:
        before = rows.get(key)
        remembered = self._let_go(before, entry)

        def put_back() -> None:
            self.leftovers.pop(remembered, None)
            self._replace(scope, self.rows(scope), key, before)

        undo.append(put_back)
        self._replace(scope, rows, key, entry)

    def _let_go(self, before: StoredEntry | None, entry: StoredEntry | None) -> int:
        # What is overwritten in place is removed only when its row goes; see `offload.stored`.
        if before is None or not before.text.startswith(REFERENCE_MARKS[0] if entry else REFERENCE_MARKS):
            return 0
        if entry is not None and entry.text == before.text:
            return 0
        self._last_leftover += 1
        self.leftovers[self._last_leftover] = before.text
        return self._last_leftover

    def empty(self, rows: Rows) -> int:
        """Delete every row of some; gives how many."""
        count = len(rows)
        for entry in rows.values():
            self._let_go(entry, None)
        rows.clear()
        return count

    def _replace(self, scope: Scope, rows: Rows, key: str, entry: StoredEntry | None) -> None:
        if entry is None:
            rows.pop(key, None)
        else:
            rows[key] = entry
        if isinstance(scope, TaskScope):  # a task instance is there only while it has state
            if rows:
                self.tasks[scope] = rows
            else:
                self.tasks.pop(scope, None)

    def expired(self) -> list[ExpiredRow]:
        """List the expired rows in the order of their expiry."""
        rows = [
            ExpiredRow(scope, key, entry.expires_at, entry.text if entry.text.startswith(REFERENCE_MARKS) else None)
            for scope, rows in self.tasks.items()
            for key, entry in rows.items()
            if entry.expires_at is not None and self.fresh(entry) is None
        ]
        return sorted(rows, key=lambda row: row.expires_at)

    def drop(self, rows: list[ExpiredRow]) -> int:
        """Delete those rows that were not written anew since they were listed; gives how many."""
        count = 0
        for row in rows:
            kept = self.tasks.get(row.scope, {})
            entry = kept.get(row.key)
            if entry is not None and self.fresh(entry) is None:
                self._write(row.scope, kept, row.key, None, [])
                count += 1
        return count

    def _check(self, lease: Lease) -> None:
        held = self.watchers.get(lease.watcher_id)
        if held is None:
            raise not_found(lease.asset)
        if held.fence != lease.fence:
            raise lease_lost(lease, held.fence)
        if held.holder is not None and self.member(held.holder) is None:
            raise lease_expired(lease)
        self.rows(lease.asset)

    def member(self, member_id: int) -> HeldMember | None:
        """Give a triggerer whose lease holds."""
        found = self.members.get(member_id)
        return found if found is not None and found.lease_until > self.now() else None

    def watcher(self, asset_id: int, name: str) -> HeldWatcher | None:
        """Find a watcher."""
        return self._places.get((asset_id, name))

    def add_watcher(self, asset_id: int, name: str) -> HeldWatcher:
        """Find a watcher, or add it."""
        found = self.watcher(asset_id, name)
        if found is None:
            found = HeldWatcher(self.new_id(), asset_id, name, self.now())
            self.watchers[found.id] = self._places[asset_id, name] = found
        return found

    def _record(self, event: NewEvent, lease: Lease | None) -> RecordedEvent:
        assert lease is not None  # noqa: S101 - Commit refuses events without one
        watcher = self.watchers[lease.watcher_id]
        keys = watcher.keys
        if event.key is not None and event.key in keys:
            return RecordedEvent(keys[event.key], duplicate=True)
        self._revision += 1
        if event.key is not None:
            keys[event.key] = self._revision
        asset_id = self.find(lease.asset).registered.id
        self._events.append(HeldEvent(self._revision, asset_id, lease.name, event.payload, event.key, self.now()))
        watcher.event = self._revision, self.now()
        return RecordedEvent(self._revision)

    def recent(self, watcher: HeldWatcher) -> int:
        """Count the events that a watcher recorded in the last minute."""
        since, count = self.now() - timedelta(minutes=1), 0
        for event in reversed(self._events):
            if event.created_at <= since:
                break
            count += (event.asset_id, event.watcher) == (watcher.asset_id, watcher.name)
        return count

    def events(self, asset: AssetScope | None, after: int, limit: int | None) -> list[Event]:
        """List events behind an id."""
        wanted = None if asset is None else self.find(asset).registered.id
        start = bisect_right(self._events, after, key=lambda each: each.id)
        found = (each for each in islice(self._events, start, None) if wanted in {None, each.asset_id})
        return [
            Event(
                id=each.id,
                asset=self.assets[each.asset_id].registered.name,
                watcher=each.watcher,
                payload=decode(each.payload),
                key=each.key,
                created_at=each.created_at,
            )
            for each in islice(found, limit)
        ]

    def drop_asset(self, scope: AssetScope) -> None:
        """Delete an asset with everything that hangs on it."""
        gone = self.find(scope).registered.id
        self.empty(self.assets.pop(gone).rows)
        self.watchers = {key: each for key, each in self.watchers.items() if each.asset_id != gone}
        self._places = {(each.asset_id, each.name): each for each in self.watchers.values()}
        self._events = [each for each in self._events if each.asset_id != gone]
        self.consumers = {key: each for key, each in self.consumers.items() if each.asset_id != gone}

    def old_events(self, before: datetime | None, keep: int | None) -> list[tuple[int, int]]:
        """List the events recorded before a time, and those that `keep` later ones of their asset follow.

        :return: of each its id and its asset's.
        """
        found: list[tuple[int, int]] = []
        later: dict[int, int] = {}
        for each in reversed(self._events):
            count = later.get(each.asset_id, 0)
            later[each.asset_id] = count + 1
            if (before is not None and each.created_at < before) or (keep is not None and count >= keep):
                found.append((each.id, each.asset_id))
        return found

    def drop_events(self, ids: set[int]) -> None:
        """Delete events; their keys stay."""
        self._events = [each for each in self._events if each.id not in ids]
