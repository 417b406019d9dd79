"""Callers are cancelled at every stage of a batch: each takes only itself away, and leaves nothing half done."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from asyncstore import Commit, CommitResult, Delete, MetastoreBackend, Put, StoreBusyError, TaskScope
from tests.postgres.proxy import Proxy
from tests.postgres.store_support import TASK, eventually
from tests.postgres.support import connected

pytestmark = pytest.mark.anyio

CALLERS = 8
OTHER = TaskScope("dag", "run", "other")


@pytest.fixture
async def backend(proxy: Proxy, database_url: str) -> AsyncGenerator[MetastoreBackend]:
    async with MetastoreBackend(proxy.through(database_url), lock_timeout=20.0) as backend:
        yield backend


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
        """Warm up and lay down what the callers find."""
        await backend.acommit(Commit(tuple(Put(TASK, key(number), "old") for number in range(CALLERS))))
        await backend.acommit(Commit((Put(OTHER, "both", "old"),)))
        await asyncio.gather(*(backend.aset(TASK, "warm", "1") for _ in range(3)))
        await asyncio.gather(*(backend.aset(TASK, f"warm {number}", "1") for number in range(3)))
        await asyncio.gather(*(backend.aget(TASK, "warm") for _ in range(3)))
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

    def cancel(self, chance: random.Random, *, but: int | None = None) -> None:
        """Cancel some, at least one."""
        some = chance.sample(range(CALLERS), chance.randrange(1, CALLERS))
        for number in some:
            if number != but and not self.tasks[number].done():
                self.tasks[number].cancel()
                self.gone.add(number)

    async def judge(self, *, certain: bool = True) -> None:
        """Wait for the end, and see that everybody has what is theirs.

        :param certain: those who stayed succeeded.
        """
        outcomes = await asyncio.wait_for(asyncio.gather(*self.tasks, return_exceptions=True), 30)
        await eventually(lambda: idle(self.backend), "the lanes to be idle")
        kept = await self.backend.aget_many(TASK, [key(number) for number in range(CALLERS)])
        for number, outcome in enumerate(outcomes):
            if number in self.gone:
                # It may have been answered in the same moment.
                assert isinstance(outcome, asyncio.CancelledError), outcome
                assert kept[key(number)] in {"old", "new"}
            elif number % 4 == 3:
                written = {"new"} if number - 1 not in self.gone else {"old", "new"}
                assert outcome in written, (number, self.gone)
            elif certain:
                assert not isinstance(outcome, BaseException), outcome
                assert kept[key(number)] == "new"
        # What comes next is not disturbed.
        await self.backend.aset(TASK, "next", "1")
        assert await asyncio.gather(*(self.backend.aget(TASK, "next") for _ in range(3))) == ["1"] * 3


def key(number: int) -> str:
    return f"key {number}"


def idle(backend: MetastoreBackend) -> bool:
    database: Any = backend._database  # pyright: ignore[reportPrivateUsage]
    here = database._here.get()
    return bool(here.writes.batcher.idle and here.reads.batcher.idle and not here.writes._aside)


@pytest.mark.parametrize("seed", range(12))
async def test_while_they_wait_for_their_turn(backend: MetastoreBackend, proxy: Proxy, seed: int) -> None:
    crowd = await Crowd.of(backend)
    proxy.stall("client")
    crowd.begin()
    await asyncio.sleep(0)
    proxy.wait_held("client")  # the first one; the others wait
    crowd.cancel(random.Random(seed), but=0)
    proxy.resume()
    await crowd.judge()
    kept = await backend.aget_many(TASK, [key(number) for number in crowd.gone])
    # What has not begun never will.
    assert all(text == "old" for text in kept.values())


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("seed", range(8))
async def test_while_the_batch_is_on_its_way(backend: MetastoreBackend, proxy: Proxy, side: Any, seed: int) -> None:
    crowd = await Crowd.of(backend)
    chance = random.Random(seed)
    first = asyncio.ensure_future(backend.aset(TASK, "before", "1"))
    await asyncio.sleep(0)
    crowd.begin()
    await asyncio.sleep(0)
    proxy.stall(side)  # whatever goes out next
    with_first = not first.done()
    for _ in range(chance.randrange(200)):
        await asyncio.sleep(0)
    crowd.cancel(chance)
    for _ in range(chance.randrange(20)):
        await asyncio.sleep(0)
    crowd.cancel(chance)
    proxy.resume()
    await crowd.judge()
    assert with_first
    await first


@asynccontextmanager
async def answer_withheld(backend: MetastoreBackend, proxy: Proxy, crowd: Crowd) -> AsyncGenerator[None]:
    """Have the batch of a crowd be committed and its answer be lost, and the server be away meanwhile."""
    proxy.stall("client")
    first = asyncio.ensure_future(backend.aset(TASK, "warm", "2"))
    await asyncio.sleep(0)
    crowd.begin()
    await asyncio.sleep(0)
    proxy.wait_held("client")
    rule = proxy.swallow_answer("B", nth=2)  # not that of the first, but that of the batch
    proxy.refuse()
    proxy.resume()
    await eventually(lambda: rule.fired, "the connection to be cut")
    await first
    yield
    proxy.accept()


@pytest.mark.parametrize("seed", range(6))
async def test_while_it_is_found_out_what_became_of_them(backend: MetastoreBackend, proxy: Proxy, seed: int) -> None:
    crowd = await Crowd.of(backend)
    chance = random.Random(seed)
    async with answer_withheld(backend, proxy, crowd):
        for _ in range(chance.randrange(300)):
            await asyncio.sleep(0)
        crowd.cancel(chance)
    for _ in range(chance.randrange(100)):
        await asyncio.sleep(0)
    crowd.cancel(chance)
    # A commit of more than one change cannot always tell.
    await crowd.judge(certain=False)
    for number, task in enumerate(crowd.tasks):
        if number % 4 < 2 and number not in crowd.gone:
            assert task.exception() is None
            assert await backend.aget(TASK, key(number)) == "new"


@pytest.mark.parametrize("seed", range(4))
async def test_while_the_connection_is_opened(proxy: Proxy, database_url: str, seed: int) -> None:
    async with MetastoreBackend(proxy.through(database_url)) as one:
        await Crowd.of(one)
    async with MetastoreBackend(proxy.through(database_url)) as backend:
        crowd = Crowd(backend)
        proxy.stall("client")
        crowd.begin()
        chance = random.Random(seed)
        for _ in range(chance.randrange(1, 50)):
            await asyncio.sleep(0)
        crowd.cancel(chance)
        proxy.resume()
        await crowd.judge()


@pytest.mark.parametrize("seed", range(4))
async def test_while_they_wait_for_a_lock(backend: MetastoreBackend, database_url: str, seed: int) -> None:
    crowd = await Crowd.of(backend)
    chance = random.Random(seed)
    locked = chance.choice([0, 1, 4, 5])
    async with connected(database_url) as other:
        await other.execute("BEGIN")
        await other.execute("SELECT FROM asyncstore_task_state WHERE key = $1 FOR UPDATE", key(locked))
        crowd.begin()
        behind = [asyncio.ensure_future(backend.aset(TASK, key(locked), f"{number}")) for number in range(3)]
        done = [task for number, task in enumerate(crowd.tasks) if number != locked]
        await asyncio.wait_for(asyncio.gather(*done), 30)
        crowd.tasks[locked].cancel()
        crowd.gone.add(locked)
        behind[1].cancel()
        await asyncio.sleep(0)
        await other.execute("ROLLBACK")
    await behind[0]
    await behind[2]
    assert behind[1].cancelled()
    assert await backend.aget(TASK, key(locked)) == "2"
    await backend.aset(TASK, key(locked), "new")
    await crowd.judge()


async def test_at_every_turn_of_the_loop(backend: MetastoreBackend) -> None:
    answered = 0
    for at in range(90):
        crowd = await Crowd.of(backend)
        crowd.begin()
        for _ in range(at if at < 40 else at * at // 40):
            await asyncio.sleep(0)
        if at >= 80:  # turns go by while nothing comes in
            await asyncio.sleep((at - 79) * 0.05)
        crowd.cancel(random.Random(at))
        answered += len(crowd.gone) == 0
        await crowd.judge()
    assert answered >= 1  # at the last turns all was done: no stage was left out


async def test_closing_while_some_are_cancelled(proxy: Proxy, database_url: str) -> None:
    for seed in range(6):
        async with MetastoreBackend(proxy.through(database_url)) as backend:
            crowd = await Crowd.of(backend)
            crowd.begin()
            chance = random.Random(seed)
            for _ in range(chance.randrange(30)):
                await asyncio.sleep(0)
            crowd.cancel(chance)
        outcomes = await asyncio.wait_for(asyncio.gather(*crowd.tasks, return_exceptions=True), 30)
        for number, outcome in enumerate(outcomes):
            if number not in crowd.gone:
                assert not isinstance(outcome, BaseException) or isinstance(outcome, StoreBusyError), outcome
            assert number in crowd.gone or number % 4 == 3 or isinstance(outcome, CommitResult | type(None))
