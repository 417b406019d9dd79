"""Finding out what became of commits whose answer was lost with the connection."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ....changes import Clear, CommitResult, Delete, Put, RecordedEvent
from ....clock import from_microseconds
from ....records import Lease
from ....scopes import TaskScope
from .link import Link, Row
from .writing import WriteJob

__all__ = ["Resolved", "resolve"]

_END = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2 AND pid <> pg_backend_pid()
"""
_ASSET_ROW = """
SELECT s.version, s.operation, s.updated_at FROM asyncstore_asset_state s WHERE s.asset_id = $1 AND s.key = $2
"""
_TASK_ROW = """
SELECT s.version, s.operation, s.updated_at
FROM asyncstore_task_instance t JOIN asyncstore_task_state s ON s.task_instance_id = t.id AND s.key = $5
WHERE t.dag_id = $1 AND t.run_id = $2 AND t.task_id = $3 AND t.map_index = $4
"""
_WATCHER = """
SELECT w.operation, w.fence, w.last_event_id, e.created_at
FROM asyncstore_watcher w LEFT JOIN asyncstore_event e ON e.id = abs(w.last_event_id) WHERE w.id = $1
"""
_DRAWN = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM asyncstore_version"
# Something is written, so that this waits for a synchronous standby as the lost commit should have done: what was made
# here may not be there yet, if the server went down, or the commit was ended, while it waited.
_KEEP = "SELECT pg_logical_emit_message(true, 'asyncstore', '')"


@dataclass(slots=True)
class Resolved:
    """Say what became of each commit.

    :ivar made: it was made, with this result; the version of a value that was overwritten since is 0.
    :ivar again: it surely was not, or can tell by itself that it was.
    :ivar unknown: nobody can tell.
    """

    made: list[tuple[WriteJob, CommitResult]] = field(default_factory=list)
    again: list[WriteJob] = field(default_factory=list)
    unknown: list[WriteJob] = field(default_factory=list)


async def resolve(link: Link, batch: list[WriteJob], lost: Link | None) -> Resolved:
    """Find out what became of commits.

    An event's commit leaves its operation at the watcher. One without events leaves it beside each value that it puts:
    where one is there, it was made; where a row has a version that was drawn before the commit was sent, it was not;
    else another write may have followed it, and nobody can tell.

    :param link: a new connection.
    :param batch: the commits, all of one statement.
    :param lost: the connection that was lost.
    """
    ended = lost is not None and await _end(link, lost)
    found = Resolved()
    operations = {job.asked.operation for job in batch}
    watchers = Counter(lease.watcher_id for job in batch if (lease := job.asked.commit.lease) is not None)
    for job in batch:
        commit = job.asked.commit
        if commit.lease is not None and commit.events:
            # The last of a watcher's commits knows itself again, also while the lost one may still come.
            sure = ended or (watchers[commit.lease.watcher_id] == 1 and len(commit.events) == 1)
            await _look_at_watcher(link, job, commit.lease, operations, sure, found)
        elif not ended or lost is None:
            found.unknown.append(job)
        else:
            await _look_at_rows(link, job, lost.drawn, found)
    if found.made:
        await link.run(_KEEP)
        link.settle()
    return found


async def _end(link: Link, lost: Link) -> bool:
    """See to it that what was sent on the lost connection no longer runs; tells whether that is sure."""
    if lost.backend[1] is None:
        return False
    for _ in range(100):
        # Another server, after a failover, has no such process: then nothing of the old one can come any more.
        if not await link.run(_END, *lost.backend):
            return True
        await asyncio.sleep(0.02)
    return False


async def _look_at_watcher(
    link: Link, job: WriteJob, lease: Lease, operations: set[int], sure: bool, found: Resolved
) -> None:
    rows = await link.run(_WATCHER, lease.watcher_id)
    operation, fence, last, at = rows[0] if rows else (None, 0, 0, None)
    if operation == job.asked.operation and at is not None and len(job.asked.commit.events) == 1:
        versions = [await _version(link, job, change) for change in job.asked.commit.changes]
        event = RecordedEvent(abs(last), duplicate=last < 0)
        found.made.append((job, CommitResult(from_microseconds(at), tuple(versions), (event,))))
    elif fence == lease.fence and operation not in operations and sure:
        found.again.append(job)
    else:
        # A later commit of this watcher, from the same statement or under a later claim, may have followed it.
        found.unknown.append(job)


async def _version(link: Link, job: WriteJob, change: Put | Delete | Clear) -> int:
    rows = await _rows(link, change) if isinstance(change, Put) else []
    return int(rows[0][0]) if rows and rows[0][1] == job.asked.operation else 0


async def _rows(link: Link, change: Put | Delete) -> list[Row]:
    scope = change.scope
    if isinstance(scope, TaskScope):
        place: tuple[Any, ...] = (scope.dag_id, scope.run_id, scope.task_id, scope.map_index, change.key)
        return await link.run(_TASK_ROW, *place)
    return await link.run(_ASSET_ROW, scope.asset_id, change.key)


async def _look_at_rows(link: Link, job: WriteJob, drawn: int, found: Resolved) -> None:
    commit = job.asked.commit
    for change in commit.changes:
        if isinstance(change, Clear):
            continue
        for version, operation, updated_at in await _rows(link, change):
            if operation == job.asked.operation:
                versions = [await _version(link, job, each) for each in commit.changes]
                found.made.append((job, CommitResult(from_microseconds(updated_at), tuple(versions))))
                return
            if version <= drawn:
                found.again.append(job)
                return
    # Nobody drew a version since: so nothing was written, and what was deleted can be deleted again.
    fresh = (await link.run(_DRAWN))[0][0] <= drawn
    (found.again if fresh else found.unknown).append(job)
