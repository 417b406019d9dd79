"""Each caller of a batch gets its own outcome, in the order of the calls of a key, whatever is beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from asyncstore import (
    Asset,
    AssetScope,
    CommitResult,
    DatabaseError,
    MetastoreBackend,
    TaskScope,
)
from tests.metastore.support import at_once, put
from tests.postgres.store_support import TASK
from tests.postgres.support import connected

pytestmark = pytest.mark.anyio

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
NUL = '"a\0b"'
SURROGATE = '"closed \ud800"'
#: Too long for an index, also once it is compressed.
LONG = "".join(chr(0x4E00 + number * 7919 % 20_000) for number in range(4000))


@pytest.fixture
async def backend(database_url: str) -> AsyncGenerator[MetastoreBackend]:
    async with MetastoreBackend(database_url) as backend:
        await backend.aset(TASK, "first", "0")
        yield backend


@pytest.fixture
async def orders(backend: MetastoreBackend) -> AssetScope:
    return await backend.aregister_asset(Asset("orders"))


# Neighbours.


@pytest.mark.parametrize("alone", [True, False], ids=["plain", "of all kinds"])
@pytest.mark.parametrize("bad", [("key", NUL), ("key", SURROGATE), (LONG, "1"), ("k\0", "1"), ("k\udfff", "1")])
async def test_what_the_database_refuses_fails_its_own_caller(
    backend: MetastoreBackend, orders: AssetScope, bad: tuple[str, str], alone: bool
) -> None:
    calls: list[Awaitable[Any]] = [put(backend, "first")]
    calls += [put(backend, f"before {number}") for number in range(10)]
    calls.append(put(backend, *bad))
    calls += [put(backend, f"after {number}") for number in range(10)]
    if not alone:
        calls += [backend.adelete(TASK, "gone"), put(backend, "key", scope=orders), put(backend, "key", *bad[1:])]
    outcomes = await at_once(*calls)
    refused = [place for place, outcome in enumerate(outcomes) if isinstance(outcome, BaseException)]
    assert refused[0] == 11
    assert type(outcomes[11]) is DatabaseError
    assert "reported an error" in str(outcomes[11])
    assert len(refused) == (2 if not alone and bad[1] != "1" else 1)
    keys = await backend.alist_keys(TASK)
    assert {key for key in keys if key.startswith(("before", "after"))} == {
        f"{when} {number}" for when in ("before", "after") for number in range(10)
    }
    assert (bad[0] in keys) is (not alone and bad == ("key", "1"))
    assert await backend.aget(TASK, "after 3") == "1"


@pytest.mark.parametrize("bad", ["k\0", "k\udfff", LONG])
async def test_a_key_that_cannot_be_read_fails_its_own_caller(backend: MetastoreBackend, bad: str) -> None:
    outcomes = await at_once(
        backend.aget(TASK, "no"), backend.aget(TASK, "first"), backend.aget(TASK, bad), backend.aget(TASK, "first")
    )
    assert outcomes[:2] == [None, "0"]
    assert outcomes[3] == "0"
    assert outcomes[2] is None if bad == LONG else type(outcomes[2]) is DatabaseError


@pytest.mark.parametrize("connected", [True, False])
@pytest.mark.parametrize("place", [0, 1, 2])
async def test_what_cannot_be_written_down_fails_its_own_caller(database_url: str, connected: bool, place: int) -> None:
    naive = datetime(2000, 1, 1)
    async with MetastoreBackend(database_url) as backend:
        if connected:
            await backend.aset(TASK, "known", "0")
        calls = [put(backend, "a"), put(backend, "b")]
        calls.insert(place, put(backend, "naive", expires_at=naive))
        outcomes = await asyncio.wait_for(at_once(*calls), 30)
        assert isinstance(outcomes.pop(place), ValueError)
        assert [type(outcome) for outcome in outcomes] == [CommitResult] * 2
        assert {"a", "b"} <= set(await asyncio.wait_for(backend.alist_keys(TASK), 30))
        calls = [backend.aget(TASK, "a"), backend.aget(TASK, "b")]
        calls.insert(place, backend.aget(cast("TaskScope", "no scope"), "a"))
        outcomes = await asyncio.wait_for(at_once(*calls), 30)
        assert isinstance(outcomes.pop(place), AttributeError)
        assert outcomes == ["1", "1"]


async def test_an_expiry_of_an_asset_s_state_fails_before_it_is_sent(
    backend: MetastoreBackend, orders: AssetScope
) -> None:
    outcomes = await at_once(put(backend, "a"), put(backend, "b", scope=orders, expires_at=LONG_AGO), put(backend, "c"))
    assert [type(outcome) for outcome in outcomes] == [CommitResult, ValueError, CommitResult]


# One key.


# Locks.


async def test_a_locked_row_holds_up_its_own_caller(backend: MetastoreBackend, database_url: str) -> None:
    await backend.aset(TASK, "locked", "0")
    async with connected(database_url) as other:
        await other.execute("BEGIN")
        await other.execute("SELECT FROM asyncstore_task_state WHERE key = 'locked' FOR UPDATE")
        waiting = [asyncio.ensure_future(put(backend, "locked", f"{number}")) for number in (1, 2)]
        outcomes = await at_once(*(put(backend, f"{number}") for number in range(20)))
        assert not [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        # Nor does it hold up those who read it, also behind the write.
        assert await backend.aget(TASK, "locked") == "0"
        waiting.append(asyncio.ensure_future(put(backend, "locked", "3")))
        assert (await at_once(put(backend, "4"), backend.aget(TASK, "4")))[1] == "1"
        assert not any(task.done() for task in waiting)
        await other.execute("ROLLBACK")
        versions = [(await task).versions[0] for task in waiting]
    assert versions == sorted(versions)
    assert await backend.aget(TASK, "locked") == "3"
