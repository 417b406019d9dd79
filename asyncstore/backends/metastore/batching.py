"""Group commit: what is asked for while a batch is on its way goes out together when that one returns.

Nobody waits for a timer, and who comes alone goes out at once.
"""

from __future__ import annotations

import asyncio
import threading
from asyncio import get_running_loop
from collections import deque
from collections.abc import Callable, Collection, Sequence
from time import monotonic
from typing import Generic, TypeVar

__all__ = ["Batcher", "Job", "PerLoop"]

Q = TypeVar("Q")
A = TypeVar("A")
T = TypeVar("T")

#: Jobs in a batch at most, so that its statement, its locks and its answer stay of a size.
MOST = 1000
#: The weight of a batch at most, but for what one job weighs: nobody waits for long behind the large values of others.
HEAVIEST = 4_000_000
#: Jobs from which two batches may be better than one.
_WORTH_HALVING = 32


class Job(Generic[Q, A]):
    """What one caller asks for, and where the answer goes.

    :ivar asked: the question.
    :ivar future: the caller's; done early where the caller was cancelled.
    :ivar reason: why the latest attempt was turned down; None where none was.
    """

    __slots__ = ("asked", "future", "reason")

    def __init__(self, asked: Q, future: asyncio.Future[A]) -> None:
        self.asked = asked
        self.future = future
        self.reason: Exception | None = None

    def answer(self, result: A) -> None:
        """Give the caller its result, unless it went away."""
        if not self.future.done():
            self.future.set_result(result)

    def fail(self, error: BaseException) -> None:
        """Give the caller its error, unless it went away."""
        if not self.future.done():
            self.future.set_exception(error)


class Batcher(Generic[Q, A]):
    """Collect what is asked for on one event loop, and send it in batches, in order.

    One batch at a time, as long as what a batch costs by itself (a round trip) is most of its time. Where the jobs are,
    two may be on their way: while one is worked on elsewhere, the callers of the other are answered and ask anew.

    :param send: takes a batch, and must see to it that `returned` is called on the loop when every job of it is
        answered. It must not raise.
    :param depth: batches on their way at most; 1 or 2.
    :param most: jobs in a batch at most.
    :param weigh: gives the bytes that a job sends; None where they do not count.
    """

    __slots__ = (
        "_answered",
        "_depth",
        "_halves",
        "_loop",
        "_most",
        "_on_their_way",
        "_send",
        "_took",
        "_waiting",
        "_weigh",
    )

    def __init__(
        self,
        send: Callable[[list[Job[Q, A]]], None],
        *,
        depth: int = 1,
        most: int = MOST,
        weigh: Callable[[Q], int] | None = None,
    ) -> None:
        self._send = send
        self._depth = depth
        self._most = most
        self._weigh = weigh
        self._halves = False
        self._took = self._answered = 0.0
        self._loop = get_running_loop()
        self._waiting: deque[Job[Q, A]] = deque()
        self._on_their_way = 0

    @property
    def idle(self) -> bool:
        """Tell whether nothing is on its way."""
        return not self._on_their_way

    @property
    def waiting(self) -> Collection[Job[Q, A]]:
        """Return what waits for its turn, in order."""
        return self._waiting

    def submit(self, asked: Q) -> asyncio.Future[A]:
        """Ask; a caller that is cancelled before its batch is sent takes its question away.

        :return: gives the answer.
        """
        future: asyncio.Future[A] = self._loop.create_future()
        job = Job(asked, future)
        if self._on_their_way:
            self._waiting.append(job)
        else:
            self._on_their_way = 1
            self._send([job])
        return future

    def put_back(self, jobs: Sequence[Job[Q, A]]) -> None:
        """Have jobs of a batch that goes out wait for the next one, in front of all others."""
        self._waiting.extendleft(reversed(jobs))

    def returned(self, size: int, took: float = 0.0) -> None:
        """Go on, now that a batch of so many jobs is answered.

        :param took: how many seconds it was on its way, where two may be.
        """
        if size > 1:
            # Those callers run first, and may ask anew: so they stay together instead of one going ahead.
            if self._depth > 1:
                self._took, self._answered = took, monotonic()
            self._loop.call_soon(self._next)
        else:
            self._next()

    def _next(self) -> None:
        self._on_their_way -= 1
        count = len(self._waiting)
        if self._depth > 1 and count >= _WORTH_HALVING:
            self._decide()
            if self._halves and not self._on_their_way:
                self._take((count + 1) // 2)
            if self._halves:
                self._take(count)
        if not self._on_their_way:
            self._take(count)

    def _decide(self) -> None:
        # The callers of a batch take about as long as its jobs; the rest of its time is what it costs by itself. With
        # halves that is paid twice, and the time of the callers is gained.
        if self._answered:
            callers = monotonic() - self._answered
            self._halves = self._took < (3 if self._halves else 2) * callers
            self._answered = 0.0

    def _take(self, most: int) -> None:
        waiting = self._waiting
        batch: list[Job[Q, A]] = []
        most = min(most, self._most)
        weigh, left = self._weigh, HEAVIEST
        while waiting and len(batch) < most and left > 0:
            job = waiting.popleft()
            if not job.future.done():
                batch.append(job)
                if weigh is not None:
                    left -= weigh(job.asked)
        if batch:
            self._on_their_way += 1
            self._send(batch)


class PerLoop(Generic[T]):
    """Hold one object for each event loop that asks.

    :param make: makes it; called on the loop.
    :param end: called with one whose loop was closed before it was.
    """

    def __init__(self, make: Callable[[], T], end: Callable[[T], object] | None = None) -> None:
        self._make = make
        self._end = end
        self._lock = threading.Lock()
        self._all: dict[asyncio.AbstractEventLoop, T] = {}
        self._last: tuple[asyncio.AbstractEventLoop | None, T | None] = (None, None)

    def get(self) -> T:
        """Give the running loop's."""
        loop = get_running_loop()
        last, found = self._last
        if last is loop and found is not None:
            return found
        with self._lock:
            ended = [self._all.pop(each) for each in list(self._all) if each.is_closed()]
            found = self._all.get(loop)
        if self._end is not None:
            for each in ended:
                self._end(each)
        if found is None:
            found = self._make()
            with self._lock:
                found = self._all.setdefault(loop, found)
        self._last = loop, found
        return found

    def pop(self, loop: asyncio.AbstractEventLoop) -> T | None:
        """Forget and give a loop's."""
        with self._lock:
            self._last = (None, None)
            return self._all.pop(loop, None)

    def clear(self) -> list[tuple[asyncio.AbstractEventLoop, T]]:
        """Forget and give all of them, by loop."""
        with self._lock:
            found = list(self._all.items())
            self._all.clear()
            self._last = (None, None)
        return found
