"""Commits that wait for somebody's lock: in what order they are made, and whom they do not hold up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from asyncstore import Asset, AssetScope, Commit, CommitResult, Lease, MetastoreBackend, NewEvent, Put, TaskScope
from asyncstore.records import WatcherState
from tests.postgres.held import EVENTS, held, rows_of, waiting
from tests.postgres.processes import PATIENCE
from tests.postgres.store_support import TASK

pytestmark = pytest.mark.anyio

OTHER = TaskScope("other", "run", "task")


@pytest.fixture
async def backend(database_url: str) -> AsyncGenerator[MetastoreBackend]:
    async with MetastoreBackend(database_url, lock_timeout=60.0, operation_timeout=60.0, pool_size=4) as backend:
        await backend.acommit(Commit(tuple(Put(TASK, key, "0") for key in "abc")))
        yield backend


@pytest.fixture
async def asset(backend: MetastoreBackend) -> AssetScope:
    return await backend.aregister_asset(Asset("orders"))


@pytest.fixture
async def lease(backend: MetastoreBackend, asset: AssetScope) -> Lease:
    return await backend.aclaim_watcher(asset, "watcher", owner="a test")


async def beside(backend: MetastoreBackend) -> None:
    """Have the batches of what was begun end: what waits for a lock then waits aside."""
    await asyncio.sleep(0)  # what was begun asks
    async with asyncio.timeout(PATIENCE):
        await backend.aset(OTHER, "beside", "1")


# The order.


@pytest.mark.parametrize("first", ["a", "b"])
@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "one after the other"])
async def test_a_commit_of_two_locked_keys_is_behind_the_writes_of_either(
    first: str, together: bool, backend: MetastoreBackend, database_url: str
) -> None:
    second = "ba"["ab".index(first)]
    for _ in range(3):
        async with held(database_url, rows_of(second)):
            async with held(database_url, rows_of(first)):
                alone: dict[str, asyncio.Future[None]] = {}
                for key in "ab":
                    alone[key] = asyncio.ensure_future(backend.aset(TASK, key, "1"))
                    if not together:
                        await beside(backend)
                both = asyncio.ensure_future(backend.acommit(Commit((Put(TASK, "a", "2"), Put(TASK, "b", "2")))))
                await beside(backend)
                last = asyncio.ensure_future(backend.aset(TASK, first, "3"))
                await beside(backend)
            async with asyncio.timeout(PATIENCE / 6):
                await alone[first]
                await beside(backend)
            assert not both.done()
            assert not last.done()
            assert await backend.aget_many(TASK, ["a", "b"]) == {first: "1", second: "0"}
        async with asyncio.timeout(PATIENCE):
            await both
            await last
            for each in alone.values():
                await each
        assert await backend.aget_many(TASK, ["a", "b"]) == {first: "3", second: "2"}
        await backend.acommit(Commit((Put(TASK, "a", "0"), Put(TASK, "b", "0"))))


async def test_a_clear_is_behind_the_writes_before_it_and_before_those_behind_it(
    backend: MetastoreBackend, database_url: str
) -> None:
    async with held(database_url, rows_of("a")):
        running: list[asyncio.Future[None]] = [asyncio.ensure_future(backend.aset(TASK, "a", "1"))]
        await beside(backend)
        running.append(asyncio.ensure_future(backend.aclear(TASK)))
        await beside(backend)
        running.append(asyncio.ensure_future(backend.aset(TASK, "b", "2")))
        await beside(backend)
        assert not any(each.done() for each in running)
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*running)
    assert await backend.aget_many(TASK, ["a", "b", "c"]) == {"b": "2"}


async def test_who_goes_away_while_it_waits_leaves_its_place_to_the_next(
    backend: MetastoreBackend, database_url: str
) -> None:
    done: list[int] = []

    async def write(number: int) -> None:
        await backend.aset(TASK, "a", str(number))
        done.append(number)

    async with held(database_url, rows_of("a")) as bare:
        running = [asyncio.ensure_future(write(number)) for number in range(100)]
        await beside(backend)
        await waiting(bare)
        for number in (0, 3, 99):
            running[number].cancel()
        await asyncio.wait([running[number] for number in (0, 3, 99)])
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait(running)
    left = [number for number in range(100) if number not in {0, 3, 99}]
    assert done == left
    assert await backend.aget(TASK, "a") == "98"


async def test_events_of_a_watcher_are_told_in_order(
    backend: MetastoreBackend, asset: AssetScope, lease: Lease, database_url: str
) -> None:
    def tell(number: int) -> asyncio.Future[CommitResult]:
        # Without a key of state, with one, and with one that no other has.
        changes = ((), (Put(asset, "same", "1"),), (Put(asset, f"key{number}", "1"),))[number % 3]
        return asyncio.ensure_future(backend.acommit(Commit(changes, (NewEvent(str(number)),), lease)))

    told: list[asyncio.Future[CommitResult]] = []
    for _ in range(4):
        async with held(database_url, EVENTS):
            for _ in range(3):
                told.append(tell(len(told)))
                await beside(backend)
            told.append(tell(len(told)))
            assert not any(each.done() for each in told[-4:])
        told.append(tell(len(told)))  # comes as the line moves
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*told)
    ids = [each.result().events[0].id for each in told]
    assert ids == sorted(set(ids))
    assert [event.payload for event in await backend.alist_events(asset)] == list(range(len(told)))


# Whom they do not hold up.


async def test_events_that_wait_for_those_of_others_hold_up_no_plain_write(
    backend: MetastoreBackend, asset: AssetScope, database_url: str
) -> None:
    leases = [await backend.aclaim_watcher(asset, f"watcher{number}", owner="a test") for number in range(5)]
    async with held(database_url, EVENTS):
        events: list[asyncio.Future[CommitResult]] = []
        for number in range(20):
            events += [
                asyncio.ensure_future(backend.acommit(Commit((Put(asset, "at", "1"),), (NewEvent(str(number)),), each)))
                for each in leases
            ]
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(
                    backend.aset(TASK, "a", str(number)),
                    backend.acommit(Commit((Put(TASK, "b", str(number)), Put(asset, "plain", "1")))),
                    backend.adelete(OTHER, "key"),
                    backend.aset(asset, f"key{number}", "1"),
                )
                assert await backend.aget_many(TASK, ["a", "b"]) == {"a": str(number), "b": str(number)}
        assert not any(each.done() for each in events)
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*events)
    told = await backend.alist_events(asset)
    for lease in leases:
        mine = [each.payload for each in told if each.watcher == lease.name]
        assert mine == list(range(20))


@pytest.fixture
async def crowded(
    backend: MetastoreBackend, asset: AssetScope, database_url: str
) -> AsyncGenerator[list[asyncio.Task[None]]]:
    """Have every connection of the pool wait for somebody's lock."""
    leases = [await backend.aclaim_watcher(asset, f"watcher{number}", owner="a test") for number in range(4)]
    async with held(database_url, "SELECT FROM asyncstore_watcher FOR UPDATE") as bare:
        reports = [asyncio.create_task(backend.areport_watcher(each, WatcherState.RUNNING)) for each in leases]
        await waiting(bare, len(leases))
        yield reports
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*reports)


async def test_reads_behind_a_write_need_none_of_the_connections_that_all_wait(
    backend: MetastoreBackend, crowded: list[asyncio.Task[None]]
) -> None:
    async with asyncio.timeout(PATIENCE):
        for number in range(1, 4):
            write = asyncio.ensure_future(backend.aset(TASK, "a", str(number)))
            await asyncio.sleep(0)
            found = await asyncio.gather(
                backend.aget(TASK, "a"),
                backend.aget_many(TASK, ["a", "b"]),
                backend.alist_keys(TASK),
                backend.aset(OTHER, "key", "1"),  # behind them in the same batch
                backend.aget(OTHER, "key"),
            )
            assert list(found) == [str(number), {"a": str(number), "b": "0"}, ["a", "b", "c"], None, "1"]
            await write
    assert not any(each.done() for each in crowded)


async def test_a_locked_row_beside_connections_that_all_wait(
    backend: MetastoreBackend, crowded: list[asyncio.Task[None]], database_url: str
) -> None:
    """The write that steps aside finds no connection; the others do not wait for it."""
    async with held(database_url, rows_of("a")):
        blocked = asyncio.ensure_future(backend.aset(TASK, "a", "1"))
        for _ in range(5):
            await beside(backend)
        assert not blocked.done()
    blocked.cancel()
    await asyncio.wait([blocked])
    assert blocked.cancelled()
