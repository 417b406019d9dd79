"""The way of commits: together, and apart where they must."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from random import uniform
from time import monotonic
from typing import Any, ClassVar, cast

import asyncpg

from ....changes import CommitResult
from ....errors import OutcomeUnknownError, StoreClosedError, StoreError
from ....scopes import Scope
from . import texts
from .aside import Aside, Unit
from .errors import EVENTS_HELD_UP, Fate, explain, fate, is_driver_error, is_held_up
from .lane import Lane, Statement
from .link import Link, Row
from .pool import Pool
from .recovery import Resolved, resolve
from .sifting import Touched, are_plain, sift
from .turns import Reading, Turn, Turns, outcome_behind, split
from .writing import Write, WriteJob, answer_commits, answer_puts, commits, drawn_in, puts, waits_for, weigh

__all__ = ["WriteLane"]

_PAUSE = 0.05
#: Seconds that a commit waits for somebody's lock at a time, before it lets another one try.
_LOCK_SLICE = 0.25
#: Seconds that the server has to answer, once it waits no more.
_MOMENT = 1.0
#: Commits from which another round trip costs less than to have them all go by the statement for any kind.
_WORTH_SIFTING = 48


def _weigh(asked: Write | Reading) -> int:
    return weigh(asked) if isinstance(asked, Write) else 0


class WriteLane(Lane[Write | Reading, Any]):
    """Make commits, and have the reads that must be behind them wait for their turn.

    :param pool: opens the connection, and those of commits that wait for a lock.
    :param now: tells the time; None where the server's is meant.
    """

    writes: ClassVar[bool] = True

    def __init__(self, pool: Pool, now: Callable[[], int | None]) -> None:
        super().__init__(pool, "asyncstore commits", weigh=_weigh)
        self._now = now
        self._aside = Aside()
        #: Not all connections may wait for locks: others have work to do.
        self._patient = asyncio.Semaphore(max(pool.size // 2, 1))
        self._turns = Turns()
        #: How many reads wait for their turn.
        self._reads = 0

    def submit(self, write: Write) -> asyncio.Future[CommitResult]:
        """Make a commit, together with those that come meanwhile."""
        return self.batcher.submit(write)

    @property
    def idle(self) -> bool:
        """Tell whether everything is answered."""
        return self.batcher.idle and not self._aside

    def closed(self, *, sent: bool) -> StoreError:
        """Give the error for a commit that is not answered when the store is closed."""
        if not sent:
            return StoreClosedError(f"the store on {self.pool.target.place} was closed; nothing was written")
        return OutcomeUnknownError(
            f"the store on {self.pool.target.place} was closed before the answer came; the write happened wholly or "
            "not at all"
        )

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
        here: list[tuple[Turn, Callable[[Link], Awaitable[Any]]]] = []
        for job in part:
            reading = job.asked
            assert isinstance(reading, Reading)  # noqa: S101 - the parts are of one kind
            known, text = (False, None) if reading.behind is None else outcome_behind(reading.behind)
            if known:
                job.answer(text)
            elif reading.work is not None:
                here.append((job, reading.work))
            else:
                try:
                    waiting[asyncio.ensure_future(reading.start())] = job
                except StoreError as error:
                    job.fail(error)
        for job, work in here:
            again = await self._read_here(job, work)
            if again is not None:
                waiting[again] = job
        if not waiting:
            return
        try:
            await asyncio.wait(waiting)
        except asyncio.CancelledError:
            for each in waiting:
                each.cancel()
            raise
        for done, job in waiting.items():
            if done.cancelled():
                job.fail(self.closed(sent=False))
            elif (failure := done.exception()) is not None:
                job.fail(failure)
            else:
                job.answer(done.result())

    async def _read_here(self, job: Turn, work: Callable[[Link], Awaitable[Any]]) -> asyncio.Future[Any] | None:
        # On the lane's own connection: the others may all be in use, by those who wait for somebody's lock.
        assert isinstance(job.asked, Reading)  # noqa: S101
        try:
            deadline = self.until(job)
            link = await self.connected(deadline)
            self.watch(link, deadline)
            try:
                job.answer(await work(link))
            finally:
                self.unwatch()
        except Exception as error:
            if is_driver_error(error):
                return asyncio.ensure_future(job.asked.start())
            job.fail(error)
        return None

    # How it goes.

    def send(self, batch: list[Turn]) -> None:
        """Do what a batch asks for, in parts where that costs less."""
        if len(batch) >= _WORTH_SIFTING and not self._reads:
            writes = cast("list[WriteJob]", batch)
            if not are_plain(writes):
                now, later = sift(writes)
                self.batcher.put_back(cast("list[Turn]", later))
                batch = cast("list[Turn]", now)
        self._turns.sent(batch)
        if self._aside:
            self.spawn(self._patiently(batch))
        else:
            super().send(batch)

    def _returned(self, size: int) -> None:
        # Whoever is answered reads at once.
        self._turns.sent(())
        super()._returned(size)

    async def _once(self, part: list[Turn]) -> list[list[Turn]]:
        if isinstance(part[0].asked, Reading):
            await self._read(part)
            return []
        return await super()._once(part)

    def admit(self, part: list[Turn]) -> tuple[list[Turn], list[Turn]]:
        """Have commits wait behind those of the same keys that wait for a lock."""
        if not self._aside:
            return part, []
        admitted: list[Turn] = []
        touched = Touched()
        for place, job in enumerate(part):
            if not isinstance(job.asked, Write):
                admitted.append(job)
                continue
            touches = waits_for(job.asked.commit)
            if not self._aside.concerns(touches):
                admitted.append(job)
                touched.add(touches)
            elif touched.meets(touches):
                # It must come behind one that goes now, too, which may yet have to step aside before it.
                return admitted, part[place:]
            else:
                self._step_aside([cast("WriteJob", job)])
        return admitted, []

    def apart(self, batch: list[Turn], error: Exception) -> list[list[Turn]]:
        """Split a batch that failed by the fault of few."""
        if not (isinstance(error, asyncpg.PostgresError) and error.sqlstate == EVENTS_HELD_UP):
            return super().apart(batch, error)
        # The events of all processes are one line: those of this batch wait in it together, and hold up nothing else.
        events = [job for job in batch if isinstance(job.asked, Write) and job.asked.commit.events]
        self._step_aside(cast("list[WriteJob]", events))
        rest = [job for job in batch if job not in events]
        return [rest] if rest else []

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
                self._step_aside([job])
            return []
        if isinstance(error, asyncpg.PostgresError) and error.sqlstate == "AS001":
            batch[0].fail(explain(error, self.pool.target.place))
            return []
        # An attempt that is begun late would be cut short, and leave a doubt where there is none now.
        latest = monotonic() + max(_PAUSE, self.pool.operation_timeout / 8)
        again = [job for job in batch if found is not Fate.REFUSED and latest < job.asked.until]
        self.give_up(cast("list[Turn]", [job for job in batch if job not in again]), error)
        if isinstance(error, asyncpg.PostgresError):
            for job in again:
                job.reason = self.explained(error)
        if again:
            await asyncio.sleep(uniform(_PAUSE / 2, _PAUSE))  # noqa: S311 - jitter
        return [again] if again else []

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
            again = self._resolved(found, error)
            # In halves, should it have been too much for the server.
            half = (len(again) + 1) // 2
            return [part for part in (again[:half], again[half:]) if part]
        return []

    def _resolved(self, found: Resolved, error: Exception) -> list[WriteJob]:
        for job, result in found.made:
            job.answer(result)
        self._unknown(found.unknown, error)
        return found.again

    async def _look_after(self, batch: list[WriteJob], lost: Link | None, deadline: float) -> Resolved:
        link = await self.connected(deadline)
        alarm = asyncio.get_running_loop().call_later(max(deadline - monotonic(), 0.01), link.give_up)
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

    def _step_aside(self, jobs: list[WriteJob]) -> None:
        until = min(monotonic() + self.pool.lock_timeout, *(job.asked.until for job in jobs))
        self.spawn(self._wait(self._aside.add(jobs, until)))

    async def _wait(self, unit: Unit) -> None:
        used: list[Link] = []
        try:
            for before in unit.behind:
                await before.done.wait()
            unit.behind.clear()
            await self._make(unit.jobs, unit.until, used)
        finally:
            for job in unit.jobs:
                job.fail(self.closed(sent=bool(used)))
            self._aside.remove(unit)

    async def _make(self, jobs: list[WriteJob], until: float, used: list[Link]) -> None:
        """Make commits that wait for a lock.

        :param used: the connection on which they are on their way, for who looks from outside.
        """
        while jobs := [job for job in jobs if not job.future.done()]:
            statement = commits(jobs, self._now())
            since = min(job.asked.until for job in jobs) - self.pool.operation_timeout
            try:
                async with self._patient:
                    patience = min(_LOCK_SLICE, max(until - monotonic(), 0.001))
                    rows = await self.pool.run(
                        partial(_run, statement, patience, used),
                        repeatable=False,
                        since=since,
                        until=monotonic() + patience + _MOMENT,
                    )
            except Exception as error:
                lost = used[0] if used else None
                used.clear()
                cause = error.__cause__
                if isinstance(error, OutcomeUnknownError) and cause is not None:
                    jobs = await self._look_aside(jobs, lost, since, error)
                elif not is_held_up(cause) or monotonic() >= until:
                    if len(jobs) > 1:
                        for job in jobs:
                            await self._make([job], until, used)
                    else:
                        jobs[0].fail(error)
            else:
                answer_commits(jobs, rows)

    async def _look_aside(
        self, jobs: list[WriteJob], lost: Link | None, since: float, error: Exception
    ) -> list[WriteJob]:
        try:
            found = await self.pool.run(lambda link: resolve(link, jobs, lost), repeatable=True, since=since)
        except Exception as still:  # away for too long
            self._unknown(jobs, still)
            return []
        return self._resolved(found, error)


async def _run(statement: Statement, patience: float, used: list[Link], link: Link) -> list[Row]:
    used[:] = [link]
    rows = await link.run(texts.COMMIT_PATIENTLY, *statement[1], f"{max(round(patience * 1000), 1)}ms")
    link.settle()
    return rows
