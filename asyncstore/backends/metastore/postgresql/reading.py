"""Reads of single keys, many in one statement."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import uniform
from time import monotonic
from typing import Any, NamedTuple

from ....clock import from_microseconds
from ....records import StoredEntry
from ....registration.deciding import inactive, not_found
from ....scopes import AssetScope, Scope, TaskScope
from ..batching import Batcher, Job
from . import texts
from .errors import Fate, fate
from .lane import Lane, Statement
from .link import Link, Row
from .pool import Pool

__all__ = ["Found", "Get", "Reads"]


class Get(NamedTuple):
    """Ask for one key; an asset goes by its id.

    :ivar entry: with its version and times.
    :ivar since: when it was asked, by `time.monotonic()`.
    """

    scope: Scope
    key: str
    entry: bool
    since: float

    @property
    def kind(self) -> tuple[bool, bool]:
        """Return what can be read by the same statement."""
        return isinstance(self.scope, TaskScope), self.entry


#: The text, or the text with what belongs to it; None where the key is absent.
Found = str | StoredEntry | None
GetJob = Job[Get, Found]


class ReadLane(Lane[Get, Found]):
    """Read single keys.

    :param pool: opens the connection.
    :param now: tells the time; None where the server's is meant.
    :param batcher: gives it batches.
    """

    def __init__(self, pool: Pool, now: Callable[[], int | None], batcher: Batcher[Get, Found]) -> None:
        super().__init__(pool, "asyncstore reads", batcher=batcher)
        self._now = now

    def whole(self, batch: list[GetJob]) -> Statement | None:
        """Give the statement that reads all of a batch, where it is of one kind."""
        first = batch[0].asked
        if len(batch) == 1:
            return self._one(first)
        of_tasks, entry = first.kind
        wanted = TaskScope if of_tasks else AssetScope
        for job in batch:
            if type(job.asked.scope) is not wanted or job.asked.entry is not entry:
                return None
        keys = [job.asked.key for job in batch]
        if not of_tasks:
            text = texts.GET_ASSET_ENTRIES if entry else texts.GET_ASSETS
            return text, ([job.asked.scope.asset_id for job in batch], keys)  # type: ignore[union-attr]
        scopes: Any = [job.asked.scope for job in batch]
        columns = (
            [scope.dag_id for scope in scopes],
            [scope.run_id for scope in scopes],
            [scope.task_id for scope in scopes],
            [scope.map_index for scope in scopes],
        )
        return texts.GET_TASK_ENTRIES if entry else texts.GET_TASKS, (self._now(), *columns, keys)

    def _one(self, get: Get) -> Statement:
        scope = get.scope
        if isinstance(scope, TaskScope):
            where = (scope.dag_id, scope.run_id, scope.task_id, scope.map_index)
            return texts.GET_TASK_ENTRY if get.entry else texts.GET_TASK, (self._now(), *where, get.key)
        return texts.GET_ASSET_ENTRY if get.entry else texts.GET_ASSET, (scope.asset_id, get.key)

    def parts(self, batch: list[GetJob]) -> list[list[GetJob]]:
        """Split a batch by kind."""
        by_kind: dict[tuple[bool, bool], list[GetJob]] = {}
        for job in batch:
            by_kind.setdefault(job.asked.kind, []).append(job)
        return list(by_kind.values())

    def answer(self, batch: list[GetJob], statement: Statement, rows: list[Row]) -> list[GetJob]:
        """Answer each job from its row."""
        if len(batch) == 1 and rows and rows[0][1] == 0 and not batch[0].asked.entry:
            batch[0].answer(rows[0][2])
            return []
        found = {row[0]: row for row in rows}
        for place, job in enumerate(batch, 1):
            row = found.get(place)
            scope = job.asked.scope
            if row is not None and row[1] == 0:
                job.answer(_entry(row) if job.asked.entry else row[2])
            elif isinstance(scope, TaskScope):
                job.answer(None)
            else:
                job.fail(not_found(scope) if row is None or row[1] == 1 else inactive(scope))
        return []

    def until(self, job: GetJob) -> float:
        """Give until when a read may be answered."""
        return job.asked.since + self.pool.operation_timeout

    async def failed(self, batch: list[GetJob], error: Exception, link: Link | None) -> list[list[GetJob]]:
        """Read again what was lost, while there is time; a read can always be repeated."""
        again: list[GetJob] = []
        pause = 0.05
        for job in batch:
            # Only a whole table that is locked, as for a migration, holds up a read.
            patience = self.pool.lock_timeout if fate(error) is Fate.LOCKED else self.pool.operation_timeout
            late = monotonic() + pause >= job.asked.since + patience
            if late or fate(error) is Fate.REFUSED:
                self.give_up([job], error)
            else:
                again.append(job)
        if again:
            await asyncio.sleep(uniform(pause / 2, pause))  # noqa: S311 - jitter
        return self.parts(again)


class Reads:
    """Read single keys, in batches of which two may be on their way: reads have no order among them.

    :param pool: opens the connections; the second one when there is much to do.
    :param now: tells the time; None where the server's is meant.
    """

    def __init__(self, pool: Pool, now: Callable[[], int | None]) -> None:
        self.batcher: Batcher[Get, Found] = Batcher(self._send, depth=2)
        self._lanes = [ReadLane(pool, now, self.batcher) for _ in range(2)]

    def _send(self, batch: list[GetJob]) -> None:
        first, second = self._lanes
        (second if first.busy else first).send(batch)

    def close(self) -> None:
        """Cancel what goes on beside the callers."""
        for lane in self._lanes:
            lane.close()


def _entry(row: Row) -> StoredEntry | None:
    _, _, text, version, updated_at, expires_at, updated_by = row
    if text is None:
        return None
    expiry = None if expires_at is None else from_microseconds(expires_at)
    return StoredEntry(text, version, from_microseconds(updated_at), expiry, updated_by)
