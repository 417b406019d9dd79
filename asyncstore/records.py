"""What comes out of the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from .scopes import AssetScope, TaskScope
from .values import JsonValue

__all__ = [
    "AssetRecord",
    "CleanupBatch",
    "CleanupReport",
    "Entry",
    "Event",
    "ExpiredRow",
    "Lease",
    "OnBatch",
    "StoredEntry",
    "SweepReport",
    "WatcherOrder",
    "WatcherRecord",
    "WatcherState",
]


@dataclass(frozen=True, slots=True)
class Entry:
    """Hold a value and what is known of it.

    :ivar value: the value.
    :ivar version: a positive integer, larger for every later write of the key, never used twice for it.
    :ivar updated_at: when it was written, in UTC.
    :ivar expires_at: from when it is absent, in UTC; None for never.
    :ivar updated_by: who wrote it: `task:<ti_id>`, `watcher:<asset>/<name>` or `cli:<user>@<host>`; None where nobody
        said.
    """

    value: JsonValue
    version: int
    updated_at: datetime
    expires_at: datetime | None
    updated_by: str | None


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """Hold what `Entry` holds, with the value as JSON text; backends deal in text."""

    text: str
    version: int
    updated_at: datetime
    expires_at: datetime | None
    updated_by: str | None


@dataclass(frozen=True, slots=True)
class Event:
    """Hold one event of the log.

    :ivar id: its place in the log; ids of one asset grow in the order of their commits.
    :ivar asset: the name of the asset.
    :ivar watcher: the name of the watcher that recorded it.
    :ivar payload: what the watcher yielded.
    :ivar key: what makes it idempotent; None where it has none.
    :ivar created_at: when it was committed, in UTC.
    """

    id: int
    asset: str
    watcher: str
    payload: JsonValue
    key: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class AssetRecord:
    """Hold what is registered of an asset.

    :ivar scope: its canonical scope.
    :ivar name: its name.
    :ivar uri: its URI; the name where none was given.
    :ivar group: a label for people.
    :ivar extra: a JSON object for people.
    :ivar created_at: when it was registered, in UTC.
    :ivar deactivated_at: since when it is inactive, in UTC; None while it is active.
    """

    scope: AssetScope
    name: str
    uri: str
    group: str
    extra: Mapping[str, JsonValue]
    created_at: datetime
    deactivated_at: datetime | None


@dataclass(frozen=True, slots=True)
class Lease:
    """Hold the right to commit for one watcher, until somebody claims it after.

    :ivar watcher_id: the watcher.
    :ivar fence: the fencing number; grows with every claim.
    :ivar asset: the canonical scope of the watched asset.
    :ivar name: the watcher's name.
    """

    watcher_id: int
    fence: int
    asset: AssetScope
    name: str


class WatcherState(StrEnum):
    """Say what a watcher is doing.

    `WAITING` for a triggerer that can run it, `RUNNING`, `BACKING_OFF` after an error, `CRASH_LOOPING` after many in a
    row (it backs off, too); or at rest: `PAUSED` and `KILLED` by somebody, `DONE` for it returned.
    """

    WAITING = "waiting"
    RUNNING = "running"
    BACKING_OFF = "backing off"
    CRASH_LOOPING = "crash-looping"
    PAUSED = "paused"
    DONE = "done"
    KILLED = "killed"


class WatcherOrder(StrEnum):
    """Say what a person asks of a watcher.

    `PAUSE` it until `RESUME`; `RESTART` it, whatever its state, without waiting; `KILL` it: it runs `on_kill()` and
    stays at rest until it is restarted.
    """

    PAUSE = "pause"
    RESUME = "resume"
    RESTART = "restart"
    KILL = "kill"


@dataclass(frozen=True, slots=True)
class WatcherRecord:
    """Hold what is known of a watcher.

    :ivar asset: the name of the watched asset.
    :ivar name: the watcher's name.
    :ivar state: what it is doing.
    :ivar asked: what somebody asked of it that is not done yet; None where nobody did.
    :ivar fence: the fencing number of the latest claim.
    :ivar owner: who made that claim; empty before the first.
    :ivar restarts: how often it was started again after an error, since somebody asked to restart it.
    :ivar last_error: the traceback of its latest error; None where it had none.
    :ivar last_error_at: when that was, in UTC.
    :ivar updated_at: when its state changed, in UTC.
    :ivar claimed_at: when it was claimed, in UTC; None before the first time.
    :ivar lease_age: how long ago the triggerer that runs it renewed its lease; None where none does.
    :ivar last_event_id: its latest event; None before the first.
    :ivar last_event_at: when that was committed, in UTC.
    :ivar events_per_minute: how many it recorded in the last minute, nearly.
    :ivar without_progress: how long ago it was claimed, wrote state or recorded an event; None where none runs it.
    """

    asset: str
    name: str
    state: WatcherState
    asked: WatcherOrder | None
    fence: int
    owner: str
    restarts: int
    last_error: str | None
    last_error_at: datetime | None
    updated_at: datetime
    claimed_at: datetime | None
    lease_age: timedelta | None
    last_event_id: int | None
    last_event_at: datetime | None
    events_per_minute: float
    without_progress: timedelta | None


@dataclass(frozen=True, slots=True)
class ExpiredRow:
    """Name one expired row of task state.

    :ivar reference: what it holds in the place of a value that a worker-side backend keeps; None for a value.
    """

    scope: TaskScope
    key: str
    expires_at: datetime
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class CleanupBatch:
    """Tell how far a cleanup has come.

    :ivar total: rows that had expired when it began.
    :ivar done: rows deleted (in a dry run: listed) so far.
    :ivar rows: the rows of this batch; filled in a dry run only.
    :ivar objects: what a worker-side backend kept and was removed, or in a dry run would be.
    """

    total: int
    done: int
    rows: tuple[ExpiredRow, ...] = ()
    objects: tuple[str, ...] = ()


OnBatch = Callable[[CleanupBatch], None]


@dataclass(frozen=True, slots=True)
class CleanupReport:
    """Tell what a cleanup did.

    :ivar backend: the name of the backend's class.
    :ivar deleted: rows that went; in a dry run, that would go. None where the backend does not say.
    :ivar dry_run: nothing was deleted.
    :ivar skipped: why nothing could be done; None where it was.
    :ivar objects: how much of what a worker-side backend kept went with rows, or was found abandoned; in a dry run,
        would go.
    :ivar objects_skipped: why what is abandoned was not looked for; None where it was.
    """

    backend: str
    deleted: int | None
    dry_run: bool
    skipped: str | None = None
    objects: int = 0
    objects_skipped: str | None = None


@dataclass(frozen=True, slots=True)
class SweepReport:
    """Tell what a sweep of deactivated assets did.

    :ivar backend: the name of the backend's class.
    :ivar assets: the names of the assets whose state went; in a dry run, would go.
    :ivar deleted: rows of state that went; in a dry run, that would go.
    :ivar dry_run: nothing was deleted.
    :ivar skipped: why nothing could be done; None where it was.
    """

    backend: str
    assets: tuple[str, ...]
    deleted: int
    dry_run: bool
    skipped: str | None = None
