"""Finding out what became of commits whose answer was lost with the connection."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from ....changes import CommitResult, Put
from ....clock import from_microseconds
from ....scopes import TaskScope
from .link import Link
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
_DRAWN = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM asyncstore_version"


@dataclass(slots=True)
class Resolved:
    """Say what became of each commit.

    :ivar made: it was made, with this result.
    :ivar again: it surely was not, or can tell by itself that it was.
    :ivar unknown: nobody can tell.
    """

    made: list[tuple[WriteJob, CommitResult]] = field(default_factory=list)
    again: list[WriteJob] = field(default_factory=list)
    unknown: list[WriteJob] = field(default_factory=list)


async def resolve(link: Link, batch: list[WriteJob], lost: Link | None) -> Resolved:
    """Find out what became of commits.

    An event's commit leaves its operation at the watcher, whose row it holds: it is sent again, and finds itself. A
    plain put leaves its operation beside the value: if it is there, it was made; if the row has a version that was
    drawn before the put was sent, it was not; else another write may have followed it, and nobody can tell.

    :param link: a new connection.
    :param batch: the commits.
    :param lost: the connection that was lost.
    """
    ended = lost is not None and await _end(link, lost)
    found = Resolved()
    for job in batch:
        commit = job.asked.commit
        change = commit.changes[0] if len(commit.changes) == 1 else None
        if commit.lease is not None and len(commit.events) == 1:
            found.again.append(job)
        elif not ended or lost is None or commit.events or not isinstance(change, Put):
            found.unknown.append(job)
        else:
            await _look(link, job, change, lost.drawn, found)
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


async def _look(link: Link, job: WriteJob, put: Put, drawn: int, found: Resolved) -> None:
    scope = put.scope
    if isinstance(scope, TaskScope):
        place: tuple[Any, ...] = (scope.dag_id, scope.run_id, scope.task_id, scope.map_index, put.key)
        rows = await link.run(_TASK_ROW, *place)
    else:
        rows = await link.run(_ASSET_ROW, scope.asset_id, put.key)
    if not rows:
        # Nobody drew a version since: so nothing was written, and then deleted.
        fresh = (await link.run(_DRAWN))[0][0] <= drawn
        (found.again if fresh else found.unknown).append(job)
        return
    version, operation, updated_at = rows[0]
    if operation == job.asked.operation:
        found.made.append((job, CommitResult(from_microseconds(updated_at), (version,))))
    elif version <= drawn:
        found.again.append(job)
    else:
        found.unknown.append(job)
