"""Callers are cancelled at every stage of a batch: each takes only itself away, and leaves nothing half done."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from asyncstore import Commit, Delete, MetastoreBackend, Put, StoreClosedError, TaskScope

from .support import PATIENCE, TASK, Connections, locked
from .test_cancellation import Steps

pytestmark = pytest.mark.anyio

CALLERS = 8
OTHER = TaskScope("dag", "run", "other")


@pytest.fixture
async def backend(url: str, connections: Connections) -> AsyncGenerator[MetastoreBackend]:
    async with MetastoreBackend(url, lock_timeout=PATIENCE) as backend:
        yield backend
    assert connections.all_closed()


@dataclass
class Crowd:
    """Callers of one turn of the loop, each with keys of its own; they alternate between what they do.

    :ivar tasks: one for each caller.
    :ivar gone: which of them were cancelled.
    """

    backend: MetastoreBackend
    tasks: list[asyncio.Task[Any]] = field(default_factory=list[asyncio.Task[Any]])
    gone: set[int] = field(default_factory=set[int])

    @classmethod
    async def of(cls, backend: MetastoreBackend) -> Crowd:
        """Lay down what the callers find."""
        await backend.acommit(Commit(tuple(Put(TASK, key(number), "old") for number in range(CALLERS))))
        await backend.acommit(Commit(tuple(Put(OTHER, key(number), "old") for number in range(CALLERS))))
        return cls(backend)

    def call(self, number: int) -> Awaitable[Any]:
        """Give what a caller does."""
        if number % 4 == 3:
            return self.backend.aget(TASK, key(number - 1))  # behind the write of its neighbour
        if number % 4 == 2:
            return self.backend.acommit(Commit((Put(TASK, key(number), "new"), Delete(OTHER, key(number)))))
        return self.backend.aset(TASK, key(number), "new")

    def begin(self) -> None:
        """Have all of them call."""
        self.tasks = [asyncio.ensure_future(self.call(number)) for number in range(CALLERS)]

    def cancel(self, chance: random.Random) -> None:
        """Cancel some, at least one where not all are done."""
        for number in chance.sample(range(CALLERS), chance.randrange(1, CALLERS)):
            if not self.tasks[number].done():
                self.tasks[number].cancel()
                self.gone.add(number)

    async def judge(self, *, begun: bool = True) -> None:
        """Wait for the end, and see that everybody has what is theirs.

        :param begun: what was cancelled may have been done.
        """
        outcomes = await asyncio.wait_for(asyncio.gather(*self.tasks, return_exceptions=True), PATIENCE)
        await self.backend.aset(TASK, "next", "1")  # behind all of them
        kept = await self.backend.aget_many(TASK, [key(number) for number in range(CALLERS)])
        beside = await self.backend.aget_many(OTHER, [key(number) for number in range(CALLERS)])
        for number, outcome in enumerate(outcomes):
            assert (kept[key(number)] == "new" and number % 4 == 2) is (key(number) not in beside)
            if number in self.gone:
                assert isinstance(outcome, asyncio.CancelledError), outcome
                assert kept[key(number)] in ({"old", "new"} if begun and number % 4 != 3 else {"old"})
            elif number % 4 == 3:
                assert outcome == ("new" if number - 1 not in self.gone else kept[key(number - 1)])
            else:
                assert not isinstance(outcome, BaseException), outcome
                assert kept[key(number)] == "new"
        # What comes next is not disturbed.
        assert await asyncio.gather(*(self.backend.aget(TASK, "next") for _ in range(3))) == ["1"] * 3


def key(number: int) -> str:
    return f"key {number}"


class Held:
    """Stop the thread of writes before its next statement, until told to go on."""

    def __init__(self, connections: Connections) -> None:
        self._raw = connections.opened[0]
        self._begun, self._go = threading.Event(), threading.Event()
        self._raw.before = self._wait

    def _wait(self, _: str) -> None:
        self._raw.before = None
        self._begun.set()
        assert self._go.wait(PATIENCE)

    async def begun(self) -> None:
        assert await asyncio.to_thread(self._begun.wait, PATIENCE)

    def release(self) -> None:
        self._go.set()


@asynccontextmanager
async def lane_taken(backend: MetastoreBackend, connections: Connections) -> AsyncGenerator[None]:
    """Have somebody else's write be on its way."""
    held = Held(connections)
    first = asyncio.ensure_future(backend.aset(TASK, "first", "1"))
    await held.begun()
    yield
    held.release()
    await first


@pytest.mark.parametrize("seed", range(12))
async def test_while_they_wait_for_their_turn(backend: MetastoreBackend, connections: Connections, seed: int) -> None:
    crowd = await Crowd.of(backend)
    async with lane_taken(backend, connections):
        crowd.begin()
        await asyncio.sleep(0)
        crowd.cancel(random.Random(seed))
        await asyncio.sleep(0)
    await crowd.judge(begun=False)  # what has not begun never will


@pytest.mark.parametrize("seed", range(12))
async def test_while_they_wait_for_the_thread(backend: MetastoreBackend, connections: Connections, seed: int) -> None:
    # Another loop's write has the lane; the batch of this one waits for it in the thread's queue.
    crowd = await Crowd.of(backend)
    held = Held(connections)
    other = threading.Thread(target=lambda: asyncio.run(backend.aset(TASK, "first", "1")))
    other.start()
    await held.begun()
    first = asyncio.ensure_future(backend.aset(TASK, "second", "1"))
    await asyncio.sleep(0)
    crowd.begin()
    await asyncio.sleep(0)
    chance = random.Random(seed)
    crowd.cancel(chance)
    first.cancel()
    await asyncio.sleep(0)
    crowd.cancel(chance)
    held.release()
    await crowd.judge(begun=False)
    await asyncio.to_thread(other.join, PATIENCE)
    assert await backend.aget(TASK, "second") is None


class CancelSome:
    """Cancel some of a crowd from the thread that works for it, and go on when the loop has seen to it."""

    def __init__(self, crowd: Crowd, seed: int) -> None:
        self._crowd = crowd
        self._chance = random.Random(seed)
        self._loop = asyncio.get_running_loop()

    def __call__(self) -> None:
        passed = threading.Event()
        self._loop.call_soon_threadsafe(self._cancel, passed, 3)
        assert passed.wait(PATIENCE)

    def _cancel(self, passed: threading.Event, rounds: int) -> None:
        if rounds == 3:
            self._crowd.cancel(self._chance)
        if rounds:
            self._loop.call_soon(self._cancel, passed, rounds - 1)
        else:
            passed.set()


async def test_at_every_statement(backend: MetastoreBackend, connections: Connections) -> None:
    at = 0
    while True:
        at += 1
        crowd = await Crowd.of(backend)
        with Steps(connections, at, CancelSome(crowd, at)) as steps:
            crowd.begin()
            await asyncio.wait(crowd.tasks)
            await backend.adelete(TASK, "none")  # behind them
        await crowd.judge()
        assert not connections.in_transaction()
        if steps.count < at:
            break
    assert at > 20


async def test_at_every_turn_of_the_loop(backend: MetastoreBackend) -> None:
    answered = 0
    for at in range(120):
        crowd = await Crowd.of(backend)
        crowd.begin()
        for _ in range(at):
            await asyncio.sleep(0)
        if at >= 100:  # turns go by while nothing comes in
            await asyncio.wait(crowd.tasks, return_when=asyncio.FIRST_COMPLETED)
            for _ in range(at - 100):
                await asyncio.sleep(0)
        if at == 119:
            await asyncio.wait(crowd.tasks)
        crowd.cancel(random.Random(at))
        answered += len(crowd.gone) == 0
        await crowd.judge()
    assert answered >= 1  # at the last turns all was done: no stage was left out


@pytest.mark.parametrize("seed", range(6))
async def test_while_they_wait_for_a_lock(
    backend: MetastoreBackend, path: Path, connections: Connections, seed: int
) -> None:
    crowd = await Crowd.of(backend)
    chance = random.Random(seed)
    tried = asyncio.Semaphore(0)
    loop = asyncio.get_running_loop()
    release: Callable[[], object] = tried.release
    with locked(path):
        connections.opened[0].before = lambda _: loop.call_soon_threadsafe(release)
        first = asyncio.ensure_future(backend.aset(TASK, "first", "1"))
        await asyncio.sleep(0)
        crowd.begin()
        await tried.acquire()
        first.cancel()  # so that the batch of the others goes out
        for _ in range(6):
            await tried.acquire()
        crowd.cancel(chance)
        for _ in range(2):
            await tried.acquire()
        crowd.cancel(chance)
        connections.opened[0].before = None
        # Those who were cancelled do not wait for the lock.
        gone = [crowd.tasks[number] for number in crowd.gone]
        await asyncio.wait_for(asyncio.wait(gone), PATIENCE)
    await crowd.judge()
    assert await backend.aget(TASK, "first") is None


async def test_all_of_them_are_cancelled_while_they_wait_for_a_lock(backend: MetastoreBackend, path: Path) -> None:
    crowd = await Crowd.of(backend)
    with locked(path):
        crowd.begin()
        await asyncio.sleep(0)
        for task in crowd.tasks:
            task.cancel()
        await asyncio.wait_for(asyncio.wait(crowd.tasks), PATIENCE)
        crowd.gone.update(range(CALLERS))
        # The thread is free for others: nobody waits for the lock any more.
        assert await asyncio.wait_for(backend.aget(TASK, key(0)), PATIENCE) == "old"
    await crowd.judge(begun=False)


@pytest.mark.parametrize("turns", range(12))
async def test_closing_while_some_are_cancelled(url: str, connections: Connections, turns: int) -> None:
    async with MetastoreBackend(url) as backend:
        crowd = await Crowd.of(backend)
        crowd.begin()
        chance = random.Random(turns)
        for _ in range(turns):
            await asyncio.sleep(0)
        crowd.cancel(chance)
        closing = asyncio.ensure_future(backend.aclose())
        for _ in range(turns):
            await asyncio.sleep(0)
        crowd.cancel(chance)
        outcomes = await asyncio.wait_for(asyncio.gather(*crowd.tasks, return_exceptions=True), PATIENCE)
        await closing
    assert connections.all_closed()
    async with MetastoreBackend(url) as backend:
        kept = await backend.aget_many(TASK, [key(number) for number in range(CALLERS)])
    for number, outcome in enumerate(outcomes):
        if number in crowd.gone:
            assert isinstance(outcome, asyncio.CancelledError)
        elif isinstance(outcome, BaseException):
            assert isinstance(outcome, StoreClosedError)
            assert kept[key(number)] == "old"
        elif number % 4 != 3:
            assert kept[key(number)] == "new"
