"""A row that somebody holds locked holds up only those who write it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from asyncstore import StoreBusyError, TaskScope
from tests.postgres.client import Connection
from tests.postgres.store_support import GRACE, ORDERS, opened
from tests.postgres.support import connected

pytestmark = pytest.mark.anyio

LOCK_TIMEOUT = 1.0
_HOLD = "SELECT FROM asyncstore_asset_state WHERE key = ANY ($1) ORDER BY key FOR UPDATE"


@asynccontextmanager
async def holding(url: str, *keys: str) -> AsyncGenerator[Connection]:
    """Lock rows, until the block ends or `COMMIT`."""
    async with connected(url) as bare:
        await bare.execute("BEGIN")
        await bare.fetch(_HOLD, list(keys))
        yield bare


async def test_a_locked_row_holds_up_its_own_caller_only(database_url: str) -> None:
    async with opened(database_url, lock_timeout=LOCK_TIMEOUT, operation_timeout=10.0) as store:
        state = store.asset_state[ORDERS]
        await state.aset_many({"locked": 0, "first": 0})
        async with holding(database_url, "locked"):
            began = time.monotonic()
            first = await state.aget_entry("first")
            assert first is not None
            blocked = asyncio.ensure_future(_failing(state.aset("locked", 1)))
            neighbours = [asyncio.ensure_future(state.aset(f"key{number}", number)) for number in range(40)]
            mixed = [
                asyncio.ensure_future(each)
                for each in (
                    state.aset("first", 1, if_version=first.version),
                    state.aset_many({"a": 1, "b": 2}),
                    state.adelete("nothing"),
                    store.task_state(TaskScope("d", "r", "t")).aset("key", 1),
                )
            ]
            await asyncio.gather(*neighbours, *mixed)
            await state.aset("first", 2)
            assert await state.aget("locked") == 0, "readers do not wait"
            assert time.monotonic() - began < LOCK_TIMEOUT, "they went before the lock timeout"
            assert not blocked.done()
            assert "nothing was written" in str(await blocked)
            assert LOCK_TIMEOUT * 0.9 < time.monotonic() - began < LOCK_TIMEOUT + GRACE
        assert await state.aget("locked") == 0
        await state.aset("locked", 2)
        assert await state.aget("locked") == 2


async def _failing(write: object) -> StoreBusyError:
    with pytest.raises(StoreBusyError) as caught:
        await write  # type: ignore[misc]
    return caught.value


async def test_it_goes_on_where_the_lock_goes(database_url: str) -> None:
    async with opened(database_url, lock_timeout=20.0, operation_timeout=30.0) as store:
        state = store.asset_state[ORDERS]
        await state.aset("locked", 0)
        async with holding(database_url, "locked") as bare:
            blocked = asyncio.ensure_future(state.aset("locked", 1))
            await state.aset("other", 1)
            assert not blocked.done()
            await bare.execute("COMMIT")
            async with asyncio.timeout(2):
                await blocked
        assert await state.aget("locked") == 1


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "one after the other"])
async def test_writes_of_a_key_keep_their_order_behind_a_lock(together: bool, database_url: str) -> None:
    async with opened(database_url, lock_timeout=20.0, operation_timeout=30.0) as store:
        state = store.asset_state[ORDERS]
        await state.aset("locked", 0)
        done: list[int] = []

        async def write(number: int) -> None:
            if number == 5:
                await state.adelete("locked")
            else:
                await state.aset("locked", number)
            done.append(number)

        async with holding(database_url, "locked") as bare:
            running: list[asyncio.Future[None]] = []
            for number in range(1, 9):
                running.append(asyncio.ensure_future(write(number)))
                if not together:
                    await state.aset("other", number)
            await state.aset("other", 0)
            assert done == []
            await bare.execute("COMMIT")
            async with asyncio.timeout(5):
                await asyncio.gather(*running)
        assert done == list(range(1, 9))
        assert await state.aget("locked") == 8


async def test_a_write_that_comes_as_the_lock_goes_does_not_overtake(database_url: str) -> None:
    async with opened(database_url, lock_timeout=20.0, operation_timeout=30.0) as store:
        state = store.asset_state[ORDERS]
        await state.aset("locked", 0)
        for round_ in range(5):
            async with holding(database_url, "locked") as bare:
                first = asyncio.ensure_future(state.aset("locked", "first"))
                await state.aset("other", round_)
                await bare.execute("COMMIT")
                second = asyncio.ensure_future(state.aset("locked", "second"))
                await asyncio.gather(first, second)
                assert await state.aget("locked") == "second"


async def test_more_locked_rows_than_connections(database_url: str) -> None:
    keys = [f"locked{number:02}" for number in range(12)]
    async with opened(database_url, lock_timeout=LOCK_TIMEOUT, operation_timeout=10.0, pool_size=2) as store:
        state = store.asset_state[ORDERS]
        await state.aset_many(dict.fromkeys(keys, 0))
        async with holding(database_url, *keys):
            began = time.monotonic()
            blocked = [asyncio.ensure_future(_failing(state.aset(key, 1))) for key in keys]
            await asyncio.sleep(0)
            took: list[float] = []
            while not all(each.done() for each in blocked):
                started = time.monotonic()
                await state.aset("free", 1)
                assert await state.aget("free") == 1
                assert await state.aget_many(["free"]) == {"free": 1}
                took.append(time.monotonic() - started)
                await asyncio.sleep(0.01)
            assert time.monotonic() - began < LOCK_TIMEOUT + GRACE, "nobody waits longer for being one of many"
            # The first waits for its turn behind the batch, each of whose keys is tried alone.
            assert max(took[1:]) < LOCK_TIMEOUT, "the others go on"
        assert await state.aget_many(keys) == dict.fromkeys(keys, 0)
        await state.aset_many(dict.fromkeys(keys, 2))


async def test_many_locks_that_go_one_by_one(database_url: str) -> None:
    keys = [f"locked{number:02}" for number in range(12)]
    async with opened(database_url, lock_timeout=20.0, operation_timeout=30.0, pool_size=2) as store:
        state = store.asset_state[ORDERS]
        await state.aset_many(dict.fromkeys(keys, 0))
        async with holding(database_url, *keys[6:]):
            async with holding(database_url, *keys[:6]):
                running = {key: asyncio.ensure_future(state.aset(key, 1)) for key in keys}
                await asyncio.sleep(0)
                await state.aset("free", 1)
            async with asyncio.timeout(10):
                await asyncio.gather(*(running[key] for key in keys[:6]))
            assert not any(running[key].done() for key in keys[6:])
        async with asyncio.timeout(10):
            await asyncio.gather(*running.values())
        assert await state.aget_many(keys) == dict.fromkeys(keys, 1)


async def test_a_caller_that_is_cancelled_while_it_waits_writes_nothing(database_url: str) -> None:
    async with opened(database_url, lock_timeout=20.0, operation_timeout=30.0) as store:
        state = store.asset_state[ORDERS]
        await state.aset("locked", 0)
        async with holding(database_url, "locked") as bare:
            given_up = asyncio.ensure_future(state.aset("locked", 1))
            await state.aset("other", 1)
            waiting = asyncio.ensure_future(state.aset("locked", 2))
            await state.aset("other", 2)
            given_up.cancel()
            await asyncio.wait([given_up])
            assert given_up.cancelled()
            await bare.execute("COMMIT")
            await waiting
        assert await state.aget("locked") == 2


async def test_a_table_that_is_locked(database_url: str) -> None:
    async with opened(database_url, lock_timeout=0.3, operation_timeout=1.0) as store, connected(database_url) as bare:
        state = store.asset_state[ORDERS]
        await state.aset("there", 1)
        await state.aget("there")
        await bare.execute("BEGIN; LOCK TABLE asyncstore_asset_state")
        began = time.monotonic()
        outcomes = await asyncio.gather(
            *(state.aget("there") for _ in range(3)),
            *(state.aset("there", number) for number in range(3)),
            state.akeys(),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes] == [StoreBusyError] * 7
        assert time.monotonic() - began < 1 + GRACE
        await bare.execute("ROLLBACK")
        assert await state.aget("there") == 1


async def test_a_store_that_is_closed_while_a_write_waits_says_so(database_url: str) -> None:
    async with opened(database_url, lock_timeout=20.0, operation_timeout=30.0) as other:
        await other.asset_state[ORDERS].aset("locked", 0)
        async with holding(database_url, "locked"):
            async with opened(database_url, lock_timeout=20.0, operation_timeout=30.0) as store:
                blocked = asyncio.ensure_future(_any_error(store.asset_state[ORDERS].aset("locked", 1)))
                await store.asset_state[ORDERS].aset("other", 1)
            async with asyncio.timeout(2):
                assert not isinstance(await blocked, asyncio.CancelledError)
        assert await other.asset_state[ORDERS].aget("locked") in (0, 1)


async def _any_error(write: object) -> BaseException:
    try:
        await write  # type: ignore[misc]
    except BaseException as error:
        return error
    raise AssertionError("it was written")
