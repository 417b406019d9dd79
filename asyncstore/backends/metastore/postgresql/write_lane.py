"""The way of commits: together, and apart where they must."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from random import uniform
from time import monotonic
from typing import Any, cast

import asyncpg

from ....changes import CommitResult, Put
from ....errors import OutcomeUnknownError, StoreBusyError, StoreError, VersionConflictError
from ....scopes import Scope
from ..batching import Job
from . import texts
from .errors import Fate, NotConnected, fate
from .lane import Lane, Statement
from .link import Link, Row
from .pool import Pool
from .recovery import Resolved, resolve
from .turns import Reading, Turn, Turns, outcome_behind, split
from .writing import Write, WriteJob, answer_commits, answer_puts, commits, drawn_in, puts, touches

__all__ = ["WriteLane"]

_PAUSE = 0.05
#: Seconds that a commit waits for somebody's lock at a time, before it lets another one try.
_LOCK_SLICE = 0.25


class WriteLane(Lane[Write | Reading, Any]):
    """Make commits, and have the reads that must be behind them wait for their turn.

    :param pool: opens the connection, and those of commits that wait for a lock.
    :param now: tells the time; None where the server's is meant.
    """

    def __init__(self, pool: Pool, now: Callable[[], int | None]) -> None:
        super().__init__(pool, "asyncstore commits")
        self._now = now
        #: What waits for a lock, by what it touches: later commits of the same key queue behind it.
        self._aside: dict[tuple[Any, str | None], _Queue] = {}
        #: Not all connections may wait for locks: others have work to do.
        self._patient = asyncio.Semaphore(max(pool.size // 2, 1))
        self._turns = Turns()
        #: How many reads wait for their turn.
        self._reads = 0

    def submit(self, write: Write) -> asyncio.Future[CommitResult]:
        """Make a commit, together with those that come meanwhile."""
        if self._aside and (queue := self._queue(write)) is not None:
            job: WriteJob = Job(write, asyncio.get_running_loop().create_future())
            self._join(queue, job)
            return job.future
        return self.batcher.submit(write)

    # Reads in their turn.

    def comes_before(self, scope: Scope, key: str | None) -> bool:
        """Tell whether a write of a key, or for None of anything of a scope, is on its way or waits for its turn.

        One that waits for somebody's lock does not count: it holds up its own caller only.
        """
        return not self.batcher.idle and self._turns.touches(self.batcher.waiting, scope, key)

    def read(self, reading: Reading) -> asyncio.Future[Any]:
        """Read something behind the writes of it that were asked for before."""
        self._reads += 1
        future = self.batcher.submit(reading)
        future.add_done_callback(self._forget)
        return future

    def _forget(self, _: object) -> None:
        self._reads -= 1

    async def _read(self, part: list[Turn]) -> None:
        waiting: dict[asyncio.Future[Any], Turn] = {}
        for job in part:
            reading = job.asked
            assert isinstance(reading, Reading)  # noqa: S101 - the parts are of one kind
            known, text = (False, None) if reading.behind is None else outcome_behind(reading.behind)
            if known:
                job.answer(text)
                continue
            try:
                waiting[asyncio.ensure_future(reading.start())] = job
            except StoreError as error:
                job.fail(error)
        if waiting:
            await asyncio.wait(waiting)
        for done, job in waiting.items():
            if done.cancelled():
                job.future.cancel()
            elif (failure := done.exception()) is not None:
                job.fail(failure)
            else:
                job.answer(done.result())

    # How it goes.

    def _send(self, batch: list[Turn]) -> None:
        self._turns.sent(batch)
        if self._aside:
            self.spawn(self._patiently(batch))
        else:
            super()._send(batch)

    def _returned(self, size: int) -> None:
        # Whoever is answered reads at once.
        self._turns.sent(())
        super()._returned(size)

    async def _once(self, part: list[Turn]) -> list[list[Turn]]:
        if isinstance(part[0].asked, Reading):
            await self._read(part)
            return []
        return await super()._once(part)

    def admit(self, part: list[Turn]) -> list[Turn]:
        """Have commits wait behind those of the same keys that wait for a lock."""
        if not self._aside:
            return part
        admitted: list[Turn] = []
        for job in part:
            if isinstance(job.asked, Write) and (queue := self._queue(job.asked)) is not None:
                self._join(queue, cast("WriteJob", job))
            else:
                admitted.append(job)
        return admitted

    def whole(self, batch: list[Turn]) -> Statement | None:
        """Give the statement that makes all of a batch, None where there are reads between."""
        if self._reads and any(isinstance(job.asked, Reading) for job in batch):
            return None
        writes = cast("list[WriteJob]", batch)
        return puts(writes, self._now()) or commits(writes, self._now())

    def parts(self, batch: list[Turn]) -> list[list[Turn]]:
        """Split a batch at reads that have their turn between its writes."""
        return split(batch) if self._reads else [batch]

    def answer(self, batch: list[Turn], statement: Statement, rows: list[Row]) -> list[Turn]:
        """Answer each commit with its own outcome."""
        writes = cast("list[WriteJob]", batch)
        if self._link is not None:
            self._link.drawn = max(self._link.drawn, drawn_in(statement[0], rows))
        if statement[0] == texts.COMMIT:
            answer_commits(writes, rows)
            return []
        missing = answer_puts(writes, statement[0], rows)
        for job in missing:
            job.asked.put = None
        return cast("list[Turn]", missing)

    def until(self, job: Turn) -> float:
        """Give until when a commit may be answered."""
        return job.asked.until if isinstance(job.asked, Write) else monotonic() + self.pool.operation_timeout

    async def failed(self, batch: list[Turn], error: Exception, link: Link | None) -> list[list[Turn]]:
        """Try again what surely was not made, find out about what was sent, wait aside for what is locked."""
        return cast("list[list[Turn]]", await self._failure(cast("list[WriteJob]", batch), error, link))

    async def _failure(self, batch: list[WriteJob], error: Exception, link: Link | None) -> list[list[WriteJob]]:
        found = fate(error)
        if found is Fate.LOST:
            return await self._resolve(batch, error, link)
        if found in {Fate.LOCKED, Fate.CANCELLED}:
            for job in batch:
                self._step_aside(job)
            return []
        if isinstance(error, asyncpg.PostgresError) and error.sqlstate == "AS001":
            self._conflict(batch[0], error)
            return []
        # An attempt that is begun late would be cut short, and leave a doubt where there is none now.
        latest = monotonic() + max(_PAUSE, self.pool.operation_timeout / 8)
        again = [job for job in batch if found is not Fate.REFUSED and latest < job.asked.until]
        self.give_up(cast("list[Turn]", [job for job in batch if job not in again]), error)
        if again:
            await asyncio.sleep(uniform(_PAUSE / 2, _PAUSE))  # noqa: S311 - jitter
        return [again] if again else []

    def _conflict(self, job: WriteJob, error: asyncpg.PostgresError) -> None:
        actual, place = int(error.detail or 0), int(error.hint or 1)
        change = job.asked.commit.changes[place - 1]
        assert isinstance(change, Put)  # noqa: S101 - nothing else asks for a version
        job.fail(VersionConflictError(change.key, change.if_version or 0, actual))

    # Lost connections.

    async def _resolve(self, batch: list[WriteJob], error: Exception, lost: Link | None) -> list[list[WriteJob]]:
        while batch:
            deadline = min(job.asked.until for job in batch)
            try:
                found = await self.pool.patiently(
                    partial(self._look_after, batch, lost, deadline), deadline, repeatable=True
                )
            except Exception as still:  # away for too long
                late, rest = self.late(cast("list[Turn]", batch))
                self._unknown(cast("list[WriteJob]", late), still)
                batch = cast("list[WriteJob]", rest)
                continue
            for job, result in found.made:
                job.answer(result)
            self._unknown(found.unknown, error)
            return [found.again] if found.again else []
        return []

    async def _look_after(self, batch: list[WriteJob], lost: Link | None, deadline: float) -> Resolved:
        link = await self._connected(deadline)
        alarm = asyncio.get_running_loop().call_later(max(deadline - monotonic(), 0.01), link.kill)
        try:
            return await resolve(link, batch, lost)
        finally:
            alarm.cancel()

    def _unknown(self, batch: list[WriteJob], error: Exception) -> None:
        for job in batch:
            failure = OutcomeUnknownError(
                f"{self.pool.target.place}: the connection was lost before the answer came ({error}); the write "
                "happened wholly or not at all. Read again and decide anew"
            )
            failure.__cause__ = error
            job.fail(failure)

    # Locks.

    def _queue(self, write: Write) -> _Queue | None:
        for place, key in touches(write.commit):
            for other, queue in self._aside.items():
                if other[0] == place and (key is None or other[1] is None or other[1] == key):
                    return queue
        return None

    def _step_aside(self, job: WriteJob) -> None:
        self._join(self._queue(job.asked) or [], job)

    def _join(self, queue: _Queue, job: WriteJob) -> None:
        queue.append((job, min(monotonic() + self.pool.lock_timeout, job.asked.until)))
        for touched in touches(job.asked.commit) or [((), None)]:
            self._aside.setdefault(touched, queue)
        if len(queue) == 1:
            self.spawn(self._wait(queue))

    async def _wait(self, queue: _Queue) -> None:
        try:
            while queue:
                job, until = queue[0]
                if not job.future.done():
                    await self._alone(job, until)
                queue.pop(0)
        finally:
            for job, _ in queue:
                job.fail(StoreBusyError(f"{self.pool.target.place}: the store was closed while the commit waited"))
            for touched in [touched for touched, other in self._aside.items() if other is queue]:
                del self._aside[touched]

    async def _alone(self, job: WriteJob, until: float) -> None:
        statement = commits([job], self._now())
        locked = True
        while locked and not job.future.done():
            locked = False
            try:
                async with self._patient:
                    patience = min(_LOCK_SLICE, max(until - monotonic(), 0.001))
                    since = job.asked.until - self.pool.operation_timeout
                    rows = await self.pool.run(partial(_run, statement, patience), repeatable=False, since=since)
            except asyncio.CancelledError:
                job.future.cancel()
                raise
            except Exception as error:
                cause = error.__cause__
                state = cause.sqlstate if isinstance(cause, asyncpg.PostgresError) else None
                locked = state == "55P03" and monotonic() < until
                if state == "AS001" and isinstance(cause, asyncpg.PostgresError):
                    self._conflict(job, cause)
                elif not locked:
                    job.fail(error)
            else:
                answer_commits([job], rows)


#: Commits that wait for one lock, in order, each with the time when it is given up.
_Queue = list[tuple[WriteJob, float]]


async def _run(statement: Statement, patience: float, link: Link) -> list[Row]:
    try:
        await link.begin()
        await link.raw.execute(f"SET LOCAL lock_timeout = {max(round(patience * 1000), 1)}")
        rows, _ = await link.step(statement[0], *statement[1])
    except Exception as error:
        if fate(error) is Fate.LOST:  # before it was committed
            raise NotConnected(error) from error
        if not link.closed:
            await link.raw.execute("ROLLBACK")
        raise
    await link.commit()
    link.settle()
    return rows
