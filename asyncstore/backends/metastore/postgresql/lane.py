"""One connection through which batches go, one after the other."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from time import monotonic
from typing import Any, ClassVar, Generic, TypeVar

from ....errors import StoreClosedError, StoreError
from ..batching import Batcher, Job
from . import eager
from .errors import Fate, explain, fate, is_driver_error, is_spoilt
from .link import Link, Row
from .pool import Pool

__all__ = ["Lane", "Statement"]

Q = TypeVar("Q")
A = TypeVar("A")

#: A statement's text and its arguments.
Statement = tuple[str, Sequence[Any]]

#: Seconds that a batch waits for a lock. Then its jobs go one by one, and those that wait still go aside.
LOCK_SLICE = 0.05
#: Seconds in which nothing can be tried any more.
_MOMENT = 0.05


class Lane(ABC, Generic[Q, A]):
    """Send batches over one connection of its own, which is opened anew where it breaks.

    :param pool: opens the connection.
    :param name: of the tasks.
    :param batcher: who gives it batches, where it is not the only lane.
    :param weigh: gives the bytes that a job sends; None where they do not count.
    """

    #: What is sent changes something.
    writes: ClassVar[bool] = False

    def __init__(
        self,
        pool: Pool,
        name: str,
        *,
        batcher: Batcher[Q, A] | None = None,
        weigh: Callable[[Q], int] | None = None,
    ) -> None:
        self.pool = pool
        self.batcher: Batcher[Q, A] = batcher or Batcher(self.send, weigh=weigh)
        #: A batch is on its way.
        self.busy = False
        self._since = 0.0
        self._name = name
        self._link: Link | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._on_its_way: tuple[list[Job[Q, A]], Statement, Link] | None = None
        self._watched: tuple[Link, float] | None = None
        self._timer: asyncio.TimerHandle | None = None
        #: A statement of the batch that is not sent eagerly is on its way.
        self._sent = False

    # What a batch is.

    @abstractmethod
    def whole(self, batch: list[Job[Q, A]]) -> Statement | None:
        """Give the statement that does all of a batch, None where it takes several."""

    @abstractmethod
    def parts(self, batch: list[Job[Q, A]]) -> list[list[Job[Q, A]]]:
        """Split a batch so that each part is one statement."""

    @abstractmethod
    def answer(self, batch: list[Job[Q, A]], statement: Statement, rows: list[Row]) -> list[Job[Q, A]]:
        """Answer the jobs of a batch from the rows of its statement; gives those that must go another way."""

    @abstractmethod
    def until(self, job: Job[Q, A]) -> float:
        """Give until when a job may be answered, by `time.monotonic()`."""

    @abstractmethod
    async def failed(self, batch: list[Job[Q, A]], error: Exception, link: Link | None) -> list[list[Job[Q, A]]]:
        """Deal with a batch whose statement ended in an error of the driver's; gives the batches to be sent again."""

    def closed(self, *, sent: bool) -> StoreError:
        """Give the error for a job that is not answered when the store is closed.

        :param sent: it was sent.
        """
        return StoreClosedError(f"the store on {self.pool.target.place} was closed before the answer came")

    def admit(self, part: list[Job[Q, A]]) -> tuple[list[Job[Q, A]], list[Job[Q, A]]]:
        """Give those jobs that may be sent now, and those to be asked for again behind them; the others are seen to."""
        return part, []

    # How it goes.

    def send(self, batch: list[Job[Q, A]]) -> None:
        """Do what a batch asks for."""
        self.busy, self._since = True, monotonic()
        link = self._link
        if link is not None and not link.closed:
            until = self.until(batch[0])  # before it is sorted
            try:
                statement = self.whole(batch)
            except Exception as error:  # what somebody asks for cannot be written down
                self.spawn(self._patiently(batch, error))
                return
            call = None if statement is None else link.ready(*statement)
            if call is not None and statement is not None:
                self._on_its_way = batch, statement, link
                self.watch(link, until)
                eager.start(call, self._done)
                return
        self.spawn(self._patiently(batch))

    def _done(self, rows: list[Row] | None, error: BaseException | None) -> None:
        assert self._on_its_way is not None  # noqa: S101 - one batch at a time
        (batch, statement, link), self._on_its_way = self._on_its_way, None
        self._watched = None
        if error is not None or rows is None:
            self.spawn(self._patiently(batch, error, link))
            return
        rest = self._answer(batch, link, statement, rows)
        if rest:
            self.spawn(self._patiently(batch, rest=rest))
        else:
            self._returned(len(batch))

    def _returned(self, size: int) -> None:
        self.busy = False
        self.batcher.returned(size, monotonic() - self._since)

    def watch(self, link: Link, deadline: float) -> None:
        """Drop the connection where it gives no answer for too long."""
        # A connection may be dead without a word: half of the time is for another one.
        left = deadline - monotonic()
        patience = min(max(left / 2, self.pool.operation_timeout / 4), left)
        until = self._loop.time() + max(patience, 0.01)
        # One timer for many batches: a timer for each would cost more than the rest of this.
        self._watched = link, until
        if self._timer is None or until < self._timer.when():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(until, self._look)

    def unwatch(self) -> None:
        """Hear that the answer came."""
        self._watched = None

    def _look(self) -> None:
        self._timer = None
        if self._watched is None:
            return
        link, until = self._watched
        if self._loop.time() < until:
            self._timer = self._loop.call_at(until, self._look)
        else:
            link.give_up()

    def _answer(self, batch: list[Job[Q, A]], link: Link, statement: Statement, rows: list[Row]) -> list[Job[Q, A]]:
        try:
            if self.writes:
                link.settle()
            return self.answer(batch, statement, rows)
        except Exception as error:  # whatever it is, nobody may wait for ever
            for job in batch:
                job.fail(error)
            return []

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside the caller."""
        task = self._loop.create_task(work, name=self._name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _patiently(
        self,
        batch: list[Job[Q, A]],
        error: BaseException | None = None,
        link: Link | None = None,
        *,
        rest: list[Job[Q, A]] | None = None,
    ) -> None:
        # Where a batch is more than a statement that is prepared, on a connection that is well.
        self._sent = error is not None
        try:
            if isinstance(error, Exception):
                todo = await self._failed(batch, error, link)
            else:
                todo = [[job] for job in rest] if rest is not None else self.parts(batch)
            while todo:
                part, rest = self.admit([job for job in todo.pop(0) if not job.future.done()])
                if rest:
                    todo.insert(0, rest)
                if part:
                    # In front of the rest, which may be about the same keys.
                    todo[:0] = await self._once(part)
        except asyncio.CancelledError:
            for job in batch:
                job.fail(self.closed(sent=self._sent))
            raise
        except Exception as unexpected:
            for job in batch:
                job.fail(unexpected)
        finally:
            self._sent = False
            self._returned(len(batch))

    async def _once(self, part: list[Job[Q, A]]) -> list[list[Job[Q, A]]]:
        deadline = min(self.until(job) for job in part)
        link: Link | None = None
        sent = self._sent = False
        try:
            link = await self.connected(deadline)
            statement = self.whole(part)
            assert statement is not None  # noqa: S101 - `parts` saw to it
            sent = self._sent = True
            self.watch(link, deadline)
            try:
                rows = await link.run(statement[0], *statement[1])
            finally:
                self.unwatch()
        except Exception as error:
            if not sent and len(part) > 1 and not isinstance(error, StoreError):
                return [[job] for job in part]  # the fault of one that cannot be written down
            if not sent:
                late, rest = self.late(part)
                for job in late:  # what the server said tells more than that it could not be asked once more
                    job.fail(job.reason or error)
                return [rest] if rest else []
            return await self._failed(part, error, link)
        self._sent = False
        return [[job] for job in self._answer(part, link, statement, rows)]

    def late(self, jobs: list[Job[Q, A]]) -> tuple[list[Job[Q, A]], list[Job[Q, A]]]:
        """Split jobs into those whose time is over and the others; where it is over for none, it is for all."""
        now = monotonic() + _MOMENT
        late = [job for job in jobs if self.until(job) <= now]
        return (late, [job for job in jobs if self.until(job) > now]) if late else (jobs, [])

    async def connected(self, deadline: float) -> Link:
        """Give the connection, opened anew where it is gone; tries until the time is over."""
        return await self.pool.patiently(lambda: self._connect(deadline), deadline, repeatable=True)

    async def _connect(self, deadline: float) -> Link:
        link = self._link
        if link is None or link.closed:
            if link is not None:
                self.pool.drop(link)
            link = self._link = await self.pool.open(deadline, lock_timeout=LOCK_SLICE, draws=self.writes)
        return link

    async def _failed(self, batch: list[Job[Q, A]], error: Exception, link: Link | None) -> list[list[Job[Q, A]]]:
        if not is_driver_error(error):
            if link is None and len(batch) > 1:  # nothing was sent
                return [[job] for job in batch]
            for job in batch:
                job.fail(error)
            return []
        if link is not None and is_spoilt(error):
            link.kill()
        if len(batch) > 1 and fate(error) in {Fate.REFUSED, Fate.COLLIDED, Fate.LOCKED, Fate.CANCELLED}:
            return self.apart(batch, error)  # it is the fault of few
        return await self.failed(batch, error if link is None else link.why(error), link)

    def apart(self, batch: list[Job[Q, A]], error: Exception) -> list[list[Job[Q, A]]]:
        """Split a batch that failed by the fault of few; gives the batches to be sent again."""
        return [[job] for job in batch]

    def give_up(self, batch: list[Job[Q, A]], error: Exception) -> None:
        """Answer every job with the store's error for one of the driver's."""
        for job in batch:
            job.fail(self.explained(error))

    def explained(self, error: Exception) -> StoreError:
        """Give the store's error for one of the driver's."""
        found = explain(error, self.pool.target.place)
        found.__cause__ = error
        return found

    def close(self) -> None:
        """Cancel what goes on beside the callers."""
        if self._timer is not None:
            self._timer.cancel()
        for task in list(self._tasks):
            # At the next turn: one that was made in this turn would never begin, and so tell its callers nothing.
            self._loop.call_soon(task.cancel)
