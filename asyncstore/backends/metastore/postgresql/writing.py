"""Commits, many in one statement."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from random import getrandbits
from time import monotonic
from typing import Any

from ....changes import Change, Clear, Commit, CommitResult, Delete, Put, RecordedEvent
from ....clock import from_microseconds, to_microseconds
from ....errors import VersionConflictError
from ....records import Lease
from ....registration.deciding import inactive, lease_expired, lease_lost, not_found
from ....scopes import AssetScope, Scope, TaskScope
from ..batching import Job
from . import texts
from .lane import Statement
from .link import Row

__all__ = [
    "Write",
    "WriteJob",
    "answer_commits",
    "answer_puts",
    "commit_call",
    "commits",
    "drawn_in",
    "outcome_of",
    "puts",
    "touches",
    "waits_for",
    "weigh",
]

#: Behind every event in the numbers of a commit's parts.
_EVENTS = 1_000_000


class Write:
    """Ask for a commit; its assets go by their ids.

    :ivar commit: what to do.
    :ivar put: the only change, where it is a plain one: no version, no lease, no event.
    :ivar operation: a number drawn for it, kept beside what it writes.
    :ivar until: when it is given up, by `time.monotonic()`.
    """

    __slots__ = ("commit", "operation", "put", "until")

    def __init__(self, commit: Commit, timeout: float) -> None:
        self.commit = commit
        self.operation = getrandbits(63)
        self.until = monotonic() + timeout
        changes = commit.changes
        plain = len(changes) == 1 and commit.lease is None and not commit.events
        change = changes[0] if plain else None
        self.put = change if type(change) is Put and change.if_version is None else None


WriteJob = Job[Write, CommitResult]


def _place(scope: Scope) -> tuple[Any, ...]:
    if isinstance(scope, TaskScope):
        return scope.dag_id, scope.run_id, scope.task_id, scope.map_index
    return (scope.asset_id or 0,)


def _order(job: WriteJob) -> tuple[Any, ...]:
    """Give the order in which every process locks: watchers, task state, asset state."""
    commit = job.asked.commit
    if commit.lease is not None:  # those of one watcher as they were asked for, as their events are told in that order
        return (commit.lease.watcher_id,)
    return (0, *min((_change_order(change) for change in commit.changes), default=(2,)))


def _change_order(change: Change) -> tuple[Any, ...]:
    return (
        0 if isinstance(change.scope, TaskScope) else 1,
        _place(change.scope),
        "" if isinstance(change, Clear) else change.key,
    )


def _expiry(put: Put) -> int | None:
    return None if put.expires_at is None else to_microseconds(put.expires_at)


# Plain puts.


def puts(batch: list[WriteJob], now: int | None) -> Statement | None:
    """Give the statement for a batch of plain puts of one kind, each of another key; None for any other batch.

    The batch comes back sorted.
    """
    given = [job.asked.put for job in batch]
    first = given[0]
    if first is None:
        return None
    if len(batch) == 1:
        return _one(batch[0], first, now)
    of_tasks = isinstance(first.scope, TaskScope)
    seen: set[Hashable] = set()
    for put in given:
        if put is None or isinstance(put.scope, TaskScope) is not of_tasks:
            return None
        seen.add((put.scope.asset_id, put.key) if isinstance(put.scope, AssetScope) else (put.scope, put.key))
    if len(seen) < len(batch):
        return None
    batch.sort(key=_put_order)
    sorted_puts = [put for job in batch if (put := job.asked.put) is not None]
    keys = [put.key for put in sorted_puts]
    values = [put.value for put in sorted_puts]
    writers = [job.asked.commit.updated_by for job in batch]
    operations = [job.asked.operation for job in batch]
    if not of_tasks:
        ids = [_place(put.scope)[0] for put in sorted_puts]
        return texts.PUT_ASSETS, (now, ids, keys, values, writers, operations)
    number_of: dict[tuple[Any, ...], int] = {}
    instances = [number_of.setdefault(_place(put.scope), len(number_of) + 1) for put in sorted_puts]
    columns = [list(column) for column in zip(*number_of, strict=True)]
    expiries = [_expiry(put) for put in sorted_puts]
    return texts.PUT_TASKS, (now, *columns, instances, keys, values, writers, operations, expiries)


def _put_order(job: WriteJob) -> tuple[Any, ...]:
    put = job.asked.put
    assert put is not None  # noqa: S101 - looked at by the caller
    return (*_place(put.scope), put.key)


def _one(job: WriteJob, put: Put, now: int | None) -> Statement:
    write = job.asked
    rest = (put.key, put.value, write.commit.updated_by, write.operation)
    if isinstance(put.scope, TaskScope):
        return texts.PUT_TASK, (now, *_place(put.scope), *rest, _expiry(put))
    return texts.PUT_ASSET, (now, put.scope.asset_id, *rest)


def answer_puts(batch: list[WriteJob], text: str, rows: list[Row]) -> list[WriteJob]:
    """Answer plain puts; gives those that were not made: a commit of any kind says why."""
    if len(batch) == 1:
        if not rows:
            return batch
        version, moment = rows[0][:2]
        batch[0].answer(CommitResult(from_microseconds(moment), (version,)))
        return []
    if text == texts.PUT_TASKS:
        for job, row in zip(batch, rows, strict=True):  # in the order given
            job.answer(CommitResult(from_microseconds(row[2]), (row[1],)))
        return []
    if len(rows) == len(batch):
        for job, row in zip(batch, rows, strict=True):
            job.answer(CommitResult(from_microseconds(row[3]), (row[2],)))
        return []
    found = {(row[0], row[1]): row for row in rows}
    missing: list[WriteJob] = []
    for job in batch:
        put = job.asked.put
        made = None if put is None else found.get((_place(put.scope)[0], put.key))
        if made is None:
            missing.append(job)
        else:
            job.answer(CommitResult(from_microseconds(made[3]), (made[2],)))
    return missing


# Commits of any kind.


def commits(batch: list[WriteJob], now: int | None) -> Statement:
    """Give the statement for a batch of any kind; the batch comes back sorted, but for those that share a key."""
    _sort(batch)
    return commit_call([job.asked for job in batch], now)


def commit_call(writes: list[Write], now: int | None) -> Statement:
    """Give the statement for commits of any kind, in this order."""
    made = [write.commit for write in writes]
    leases = [commit.lease for commit in made]
    changes = [(number, change) for number, commit in enumerate(made, 1) for change in commit.changes]
    events = [(number, event) for number, commit in enumerate(made, 1) for event in commit.events]
    parts = [change for _, change in changes]
    given = [change if isinstance(change, Put) else None for change in parts]
    return texts.COMMIT, (
        now,
        [commit.updated_by for commit in made],
        [write.operation for write in writes],
        [None if lease is None else lease.watcher_id for lease in leases],
        [None if lease is None else lease.fence for lease in leases],
        [number for number, _ in changes],
        [_kind(change) for change in parts],
        [change.scope.asset_id if isinstance(change.scope, AssetScope) else None for change in parts],
        *(_column(parts, name) for name in ("dag_id", "run_id", "task_id", "map_index")),
        [None if isinstance(change, Clear) else change.key for change in parts],
        [None if put is None else put.value for put in given],
        [None if put is None else _expiry(put) for put in given],
        [None if put is None else put.if_version for put in given],
        [number for number, _ in events],
        [event.payload for _, event in events],
        [event.key for _, event in events],
    )


def _sort(batch: list[WriteJob]) -> None:
    # The locks are taken in order by the function itself. What is left are rows that do not exist yet; so sort, unless
    # that would turn two writes of one key around.
    keys = [touched for job in batch for touched in touches(job.asked.commit)]
    if len(set(keys)) == len(keys) and not any(key is None for _, key in keys):
        batch.sort(key=_order)


def touches(commit: Commit) -> list[tuple[Hashable, Hashable]]:
    """Give what a commit changes: a key of a place, or all of the place (None)."""
    return [_touched(change) for change in commit.changes]


def waits_for(commit: Commit) -> list[tuple[Hashable, Hashable]]:
    """Give where a commit must take its turn: the keys that it changes, and its watcher, whose events are in order."""
    lease = commit.lease
    return [*touches(commit), *([] if lease is None else [("watcher", lease.watcher_id)])]


def _touched(change: Change) -> tuple[Hashable, Hashable]:
    scope = change.scope
    if isinstance(scope, AssetScope):
        return scope.asset_id, None if isinstance(change, Clear) else change.key
    # A clear may be one of all map indices.
    key = None if isinstance(change, Clear) else (scope.map_index, change.key)
    return (scope.dag_id, scope.run_id, scope.task_id), key


def weigh(write: Write) -> int:
    """Give the size of what a commit sends, roughly: its values and payloads."""
    if write.put is not None:
        return len(write.put.value)
    commit = write.commit
    return sum(len(change.value) for change in commit.changes if isinstance(change, Put)) + sum(
        len(event.payload) for event in commit.events
    )


def _column(changes: list[Change], name: str) -> list[Any]:
    return [getattr(change.scope, name) if isinstance(change.scope, TaskScope) else None for change in changes]


def _kind(change: Change) -> str:
    if isinstance(change, Put):
        return "put"
    if isinstance(change, Delete):
        return "delete"
    return "clear all" if change.all_map_indices else "clear"


def answer_commits(batch: list[WriteJob], rows: Sequence[Row]) -> None:
    """Answer commits from what became of each."""
    by_commit: dict[int, list[Row]] = {}
    for row in rows:
        by_commit.setdefault(row[0], []).append(row)
    for number, job in enumerate(batch, 1):
        outcome = outcome_of(job.asked.commit, by_commit.get(number, []))
        if isinstance(outcome, CommitResult):
            job.answer(outcome)
        else:
            job.fail(outcome)


def outcome_of(commit: Commit, rows: Sequence[Row]) -> CommitResult | Exception:
    """Give what became of a commit: its result, or why it was not made."""
    versions: list[int] = []
    events: list[RecordedEvent] = []
    moment = 0
    for _, part, outcome, number, at in rows:
        if outcome == "version":
            versions.append(number)
        elif outcome in {"event", "duplicate"}:
            events.append(RecordedEvent(number, duplicate=outcome == "duplicate"))
        else:
            return _refusal(commit, part, outcome, number)
        moment = at
    return CommitResult(from_microseconds(moment), tuple(versions), tuple(events))


def _refusal(commit: Commit, part: int, outcome: str, number: int) -> Exception:
    change = commit.changes[part - 1] if part else None
    if change is not None and outcome == "conflict" and isinstance(change, Put) and change.if_version is not None:
        return VersionConflictError(change.key, change.if_version, number)
    lease: Lease | None = commit.lease
    if lease is not None and outcome == "lost":
        return lease_lost(lease, number)
    if lease is not None and outcome == "expired":
        return lease_expired(lease)
    scope = change.scope if change is not None else None if lease is None else lease.asset
    assert isinstance(scope, AssetScope)  # noqa: S101 - task state is never unknown or inactive
    return inactive(scope) if outcome == "inactive" else not_found(scope)


_VERSION_AT = {texts.PUT_ASSET: 0, texts.PUT_TASK: 0, texts.PUT_TASKS: 1, texts.PUT_ASSETS: 2}


def drawn_in(text: str, rows: list[Row]) -> int:
    """Give the largest version that an answer tells of."""
    if text == texts.COMMIT:
        return max((row[3] for row in rows if row[2] == "version"), default=0)
    place = _VERSION_AT[text]
    return max((row[place] for row in rows), default=0)
