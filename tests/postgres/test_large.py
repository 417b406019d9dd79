"""Large values: what goes together is bounded by its size, and not by its number only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator

import pytest

from asyncstore import Asset, Commit, MetastoreBackend, NewEvent, Put, Store, connect
from asyncstore.backends.metastore.batching import HEAVIEST
from asyncstore.settings import Settings, StateStoreSettings
from tests.postgres.links import Link
from tests.postgres.messages import Message
from tests.postgres.processes import PATIENCE
from tests.postgres.proxy import Proxy
from tests.postgres.store_support import ORDERS, TASK

pytestmark = pytest.mark.anyio

SIZE = 1_000_000
COUNT = 200
#: What a message holds beside the values.
BESIDE = 100_000


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> Generator[list[int]]:
    """Give the sizes of what is sent with statements through every proxy."""
    found: list[int] = []
    forward = Link._from_client  # pyright: ignore[reportPrivateUsage]

    async def note(self: Link, message: Message) -> None:
        if message.kind == "B":
            found.append(len(message.data))
        await forward(self, message)

    with monkeypatch.context() as patch:
        patch.setattr(Link, "_from_client", note)
        yield found


@pytest.fixture
async def backend(sizes: list[int], proxy: Proxy, database_url: str) -> AsyncGenerator[MetastoreBackend]:
    del sizes  # hears every connection from its beginning
    async with MetastoreBackend(proxy.through(database_url), operation_timeout=60.0) as backend:
        yield backend


@pytest.fixture
async def store(backend: MetastoreBackend) -> AsyncGenerator[Store]:
    settings = Settings(state_store=StateStoreSettings(max_value_storage_bytes=0))
    async with connect(backend=backend, settings=settings) as store:
        await store.task_state(TASK).aset("small", 0)
        await store.asset_state[ORDERS].aset("small", 0)
        yield store


@pytest.mark.parametrize("kind", ["task", "asset"])
async def test_many_large_values_at_once(kind: str, store: Store, sizes: list[int]) -> None:
    state = store.task_state(TASK) if kind == "task" else store.asset_state[ORDERS]
    done: list[str] = []

    async def write(key: str, value: str) -> None:
        await state.aset(key, value)
        done.append(key)

    sizes.clear()
    running = [asyncio.ensure_future(write(f"key{number}", "x" * SIZE)) for number in range(20)]
    running.append(asyncio.ensure_future(write("small", "1")))
    running += [asyncio.ensure_future(write(f"key{number}", "x" * SIZE)) for number in range(20, COUNT)]
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*running)
    assert sum(sizes) > COUNT * SIZE
    assert max(sizes) < HEAVIEST + SIZE + BESIDE
    # It goes with at most one batch of those that came after it.
    assert done.index("small") < 20 + (HEAVIEST + SIZE) // SIZE
    assert await state.aget("small") == "1"
    assert len(await state.akeys()) == COUNT + 1
    assert await state.aget(f"key{COUNT - 1}") == "x" * SIZE


async def test_commits_and_events_have_their_weight_too(backend: MetastoreBackend, sizes: list[int]) -> None:
    asset = await backend.aregister_asset(Asset("orders"))
    lease = await backend.aclaim_watcher(asset, "watcher", owner="a test")
    large = f'"{"x" * SIZE}"'
    commits = [
        each
        for number in range(10)
        for each in (
            Commit((Put(TASK, f"a{number}", large), Put(TASK, f"b{number}", "1"))),
            Commit((Put(asset, "at", str(number)),), (NewEvent(large),), lease),
        )
    ]
    sizes.clear()
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(backend.acommit(each) for each in commits))
    assert sum(sizes) > len(commits) * SIZE
    assert max(sizes) < HEAVIEST + SIZE + BESIDE
    assert [event.payload for event in await backend.alist_events(asset)] == ["x" * SIZE] * 10


async def test_one_that_is_larger_than_a_batch(store: Store, sizes: list[int]) -> None:
    state = store.task_state(TASK)
    huge = "x" * (2 * HEAVIEST)
    sizes.clear()
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(
            state.aset("first", 1), state.aset("huge", huge), *(state.aset(f"k{n}", n) for n in range(9))
        )
    assert max(sizes) < len(huge) + BESIDE
    assert await state.aget("huge") == huge
    assert await state.aget_many(["first", "k8"]) == {"first": 1, "k8": 8}
