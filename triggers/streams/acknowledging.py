"""One producer and its subscribers, who answer each raw event."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Any

import anyio
from anyio import CancelScope

from ..errors import SharedStreamError
from .demand import Demand
from .derived import Stream
from .lanes import Answer, Lanes, Outstanding
from .source import close, generator, uninvited
from .terms import Terms

if TYPE_CHECKING:
    from ..abc import SharedStreamProducer

__all__ = ["AcknowledgingFeed"]

logger = logging.getLogger("triggers")


class _Member:
    """What one watcher has not answered, and since when."""

    def __init__(self) -> None:
        self.queue: deque[Outstanding] = deque()
        #: How many it was given and has not answered; those in its hands, too.
        self.unanswered = 0
        #: It has answered nothing for too long, though it was waited for.
        self.is_stuck = False
        #: On the loop's clock, from when on it is waited for: when it answered last, was given something when there was
        #: nothing to answer, or has failed something while it was stuck.
        self.moved_at = -math.inf

    def give(self, entry: Outstanding) -> None:
        """Have it answer one more."""
        self.queue.append(entry)
        if not self.unanswered:
            self.moved_at = anyio.current_time()
        self.unanswered += 1

    def move(self) -> None:
        """Note that it answers."""
        self.is_stuck = False
        self.moved_at = anyio.current_time()


class AcknowledgingFeed:
    """Give each raw event to every watcher of the stream, and advance it when all have answered.

    Who answers are the watchers known when it is given out, whether they run at that moment or not: what one that is
    starting or backing off has not answered waits for it. At most `terms.size` raw events are given out and not
    advanced. When that many are, the stream waits for those who have not answered the oldest; who answers nothing at
    all for `terms.patience` seconds has failed it, and fails what there is no room for until it answers again: no more
    than `terms.size` in each `terms.patience`, for what it fails the source may deliver again at once. So memory is
    bounded, a watcher that is stuck or slow paces its siblings no further than that, and nothing is acknowledged that
    a watcher has not answered.

    :param producer: the source.
    :param names: the watchers known so far.
    :param terms: buffer, delays and whom to tell of the end.
    """

    def __init__(
        self,
        producer: SharedStreamProducer,
        names: Iterable[Hashable],
        terms: Terms,
    ) -> None:
        self._producer = producer
        self._members: dict[Hashable, _Member] = {name: _Member() for name in names}
        self._lanes = Lanes(producer, size=terms.size, closing=terms.closing, on_error=self._fail)
        self._terms = terms
        self._demand = Demand()
        self._scope = CancelScope()
        self._reading = CancelScope()
        self._ended = False
        self._over = False
        self._error: Exception | None = None

    def expect(self, name: Hashable) -> None:
        """Have one more watcher answer what is given out from now on.

        :param name: the watcher.
        """
        self._members.setdefault(name, _Member())

    def retire(self, name: Hashable, *, elsewhere: bool) -> None:
        """Have a watcher answer no more.

        :param name: the watcher.
        :param elsewhere: another process runs it; it fails what it has not answered, for the broker to deliver again.
        """
        if self._members.pop(name, None) is None:
            return
        for entry in self._lanes:
            self._lanes.answer(entry, name, Answer.FAILED if elsewhere else Answer.NONE)

    def subscribe(self, name: Hashable) -> Stream:
        """Give a watcher what it has not answered, and what comes.

        :param name: the watcher; one subscription at a time.
        """
        self.expect(name)
        return _AcknowledgingSubscription(self, name)

    def stop(self) -> None:
        """Close the source; what is not advanced the broker delivers again."""
        self._scope.cancel()

    async def run(self) -> None:
        """Give out until the source ends or raises, or `stop`."""
        with self._scope:
            try:
                await self._demand.wait_asked()
                await anyio.sleep_until(self._terms.opens_at)
                opened_at = anyio.current_time()
                async with anyio.create_task_group() as tasks:
                    self._lanes.start(tasks)
                    try:
                        with self._reading, uninvited(f"{type(self._producer).__qualname__}.open_stream"):
                            await self._read()
                    except Exception as error:
                        self._fail(error)
                    finally:
                        self._lanes.close()
            finally:
                with self._terms.shield():
                    await close(self._producer)
            self._over = True
            self._terms.on_end(self, self._error, anyio.current_time() - opened_at)
            self._demand.tell()

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error
        self._reading.cancel()

    async def _read(self) -> None:
        pairs = generator(self._producer.open_stream(), f"{type(self._producer).__qualname__}.open_stream")
        try:
            async for raw, receipt in pairs:
                await self._make_room()
                self._give(raw, receipt)
                await self._demand.wait_asked()
        finally:
            with self._terms.shield():
                await close(pairs)
        self._ended = True
        self._demand.tell()
        while not self._lanes.is_empty:
            await self._lanes.wait_moved()

    def _give(self, raw: Any, receipt: Any) -> None:
        lane = self._producer.get_advance_lane(receipt)
        entry = Outstanding(raw, receipt, lane, set(self._members))
        self._lanes.add(entry)
        for member in self._members.values():
            member.give(entry)
        self._demand.tell()

    async def _make_room(self) -> None:
        while self._lanes.is_full:
            oldest = self._lanes.oldest
            until = math.inf
            if oldest is not None:
                self._fail_stuck(oldest)
                until = min((self._patience_ends(name) for name in oldest.pending), default=math.inf)
            with CancelScope(deadline=until):
                await self._lanes.wait_moved()

    def _patience_ends(self, name: Hashable) -> float:
        member = self._members[name]
        return member.moved_at + (self._terms.patience / self._terms.size if member.is_stuck else self._terms.patience)

    def _fail_stuck(self, entry: Outstanding) -> None:
        for name in list(entry.pending):
            if self._patience_ends(name) > anyio.current_time():
                continue
            member = self._members[name]
            if not member.is_stuck:
                member.is_stuck = True
                logger.warning(
                    "watcher %s has answered nothing for %s s while %d raw events wait; until it does, it fails what "
                    "there is no room for, and the source delivers that again",
                    name,
                    self._terms.patience,
                    self._terms.size,
                )
            member.moved_at = anyio.current_time()
            member.unanswered -= 1
            self._lanes.answer(entry, name, Answer.FAILED)
            while member.queue and name not in member.queue[0].pending:
                member.queue.popleft()

    async def take(self, name: Hashable) -> Outstanding:
        """Give the next raw event that a watcher has not answered.

        :param name: the watcher.
        :raises StopAsyncIteration: the source has ended, or the watcher is retired.
        :raises SharedStreamError: the source, or advancing it, has raised.
        """
        while True:
            if self._over and self._error is not None:
                raise SharedStreamError(
                    f"the shared stream of {type(self._producer).__qualname__} failed: "
                    f"{type(self._error).__name__}: {self._error}"
                ) from self._error
            member = self._members.get(name)
            if member is not None and member.queue:
                return member.queue.popleft()
            if self._ended or member is None:
                raise StopAsyncIteration
            await self._demand.wait_news()

    def answer(self, entry: Outstanding, name: Hashable, answer: Answer) -> None:
        """Count the answer of a watcher."""
        member = self._members.get(name)
        if member is not None:
            member.move()
            member.unanswered -= name in entry.pending
        self._lanes.answer(entry, name, answer)

    def put_back(self, entry: Outstanding, name: Hashable) -> None:
        """Keep for a watcher what it was given and did not answer, before all else."""
        if name in entry.pending and name in self._members:
            self._members[name].queue.appendleft(entry)


class _AcknowledgingSubscription(Stream):
    """Answer a raw event when the next one is asked for, or when the filter ends."""

    def __init__(self, feed: AcknowledgingFeed, name: Hashable) -> None:
        self._feed = feed
        self._name = name
        self._held: Outstanding | None = None
        self._derived = False

    async def __anext__(self) -> Any:
        await self.settle(failed=False)
        self._held, self._derived = await self._feed.take(self._name), False
        return self._held.raw

    def derived(self) -> None:
        self._derived = True

    async def settle(self, *, failed: bool) -> None:
        held, self._held = self._held, None
        if held is not None:
            answer = Answer.FAILED if failed else Answer.ACCEPTED if self._derived else Answer.REJECTED
            self._feed.answer(held, self._name, answer)

    async def aclose(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._feed.put_back(held, self._name)
