"""Each caller of a batch gets its own outcome, in the order of the calls of a key, whatever is beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from asyncstore import (
    Asset,
    AssetInactiveError,
    AssetNotFoundError,
    AssetScope,
    Clear,
    Commit,
    CommitResult,
    DatabaseError,
    Delete,
    LeaseLostError,
    MetastoreBackend,
    NewEvent,
    Put,
    Scope,
    StoredEntry,
    StoreError,
    TaskScope,
    VersionConflictError,
)
from tests.postgres.databases import Databases
from tests.postgres.store_support import TASK, migrated
from tests.postgres.support import connected

pytestmark = pytest.mark.anyio

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
NUL = '"a\0b"'
SURROGATE = '"closed \ud800"'
#: Too long for an index, also once it is compressed.
LONG = "".join(chr(0x4E00 + number * 7919 % 20_000) for number in range(4000))


@pytest.fixture(scope="module")
def database_template(postgres: Databases) -> str:
    return migrated(postgres)


@pytest.fixture
async def backend(database_url: str) -> AsyncGenerator[MetastoreBackend]:
    async with MetastoreBackend(database_url) as backend:
        await backend.aset(TASK, "first", "0")
        yield backend


@pytest.fixture
async def orders(backend: MetastoreBackend) -> AssetScope:
    return await backend.aregister_asset(Asset("orders"))


async def at_once(*calls: Awaitable[Any]) -> list[Any]:
    """Make calls in one turn of the loop, so that all but the first share a batch; gives results and errors."""
    return await asyncio.gather(*calls, return_exceptions=True)


def put(backend: MetastoreBackend, key: str, value: str = "1", scope: Scope = TASK, **rest: Any) -> Awaitable[Any]:
    return backend.acommit(Commit((Put(scope, key, value, **rest),)))


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


async def test_each_refusal_is_its_own(backend: MetastoreBackend, orders: AssetScope) -> None:
    resting = await backend.aregister_asset(Asset("resting"))
    lost = await backend.aclaim_watcher(orders, "watcher", owner="one")
    held = await backend.aclaim_watcher(orders, "watcher", owner="two")
    await backend.adeactivate_asset(resting)
    version = (await backend.acommit(Commit((Put(TASK, "known", "1"),)))).versions[0]
    calls = [
        put(backend, "first"),
        put(backend, "a", scope=AssetScope(10**9)),
        put(backend, "a", scope=resting),
        put(backend, "known", "2", if_version=version + 10**6),
        backend.acommit(Commit((Put(TASK, "not written", "1"),), (NewEvent("1"),), lost)),
        backend.acommit(Commit((Put(TASK, "written", "1"),), (NewEvent("1", "key"),), held)),
        backend.acommit(Commit((), (NewEvent("2", "key"),), held)),
        backend.adelete(AssetScope(10**9), "a"),
        backend.acommit(Commit((Put(TASK, "half", "1"), Delete(resting, "a")))),
        put(backend, "known", "3", if_version=version),
        put(backend, "known", "4", if_version=version),
    ]
    outcomes = await at_once(*calls)
    kinds = [
        *[CommitResult, AssetNotFoundError, AssetInactiveError, VersionConflictError, LeaseLostError, CommitResult],
        *[CommitResult, AssetNotFoundError, AssetInactiveError, CommitResult, VersionConflictError],
    ]
    assert [type(outcome) for outcome in outcomes] == kinds
    assert (outcomes[3].expected, outcomes[3].actual) == (version + 10**6, version)
    assert (outcomes[10].expected, outcomes[10].actual) == (version, outcomes[9].versions[0])
    assert outcomes[6].events[0].duplicate
    assert outcomes[6].events[0].id == outcomes[5].events[0].id
    assert await backend.alist_keys(TASK) == ["first", "known", "written"]
    assert await backend.aget(TASK, "known") == "3"
    assert [event.payload for event in await backend.alist_events()] == [1]


async def test_errors_are_not_shared(backend: MetastoreBackend) -> None:
    calls = [put(backend, "first"), *(put(backend, "a", scope=AssetScope(10**9)) for _ in range(3))]
    _, *errors = await at_once(*calls)
    assert all(isinstance(error, AssetNotFoundError) for error in errors)
    assert len({id(error) for error in errors}) == 3


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


async def test_the_same_key_many_times_in_a_batch(backend: MetastoreBackend, orders: AssetScope) -> None:
    for scope in (TASK, orders):
        outcomes = await at_once(*(put(backend, "key", f"{number}", scope) for number in range(100)))
        versions = [outcome.versions[0] for outcome in outcomes]
        assert versions == sorted(set(versions))
        entry = await backend.aget_entry(scope, "key")
        assert entry is not None
        assert (entry.text, entry.version) == ("99", versions[-1])


async def test_checked_writes_of_one_key_in_a_batch(backend: MetastoreBackend) -> None:
    outcomes = await at_once(put(backend, "first"), *(put(backend, "key", f"{n}", if_version=0) for n in range(20)))
    assert [type(outcome) for outcome in outcomes] == [CommitResult] * 2 + [VersionConflictError] * 19
    assert {error.actual for error in outcomes[2:]} == set(outcomes[1].versions)
    assert await backend.aget(TASK, "key") == "0"


@pytest.mark.parametrize("new", [True, False], ids=["new", "known"])
@pytest.mark.parametrize("asset", [True, False], ids=["asset", "task"])
async def test_the_order_of_calls_of_a_key_is_kept(
    backend: MetastoreBackend, orders: AssetScope, new: bool, asset: bool
) -> None:
    scope: Scope = orders if asset else TaskScope("dag", "run", "another")
    for _ in range(30):
        if not new:
            await backend.aset(scope, "key", "0")
        outcomes = await at_once(
            backend.aset(scope, "key", "1"),
            backend.aget(scope, "key"),
            backend.adelete(scope, "key"),
            backend.aget(scope, "key"),
            backend.aset(scope, "key", "2"),
            backend.aget(scope, "key"),
            backend.aget_entry(scope, "key"),
            backend.aset(scope, "key", "3"),
            backend.alist_keys(scope),
            backend.aget_many(scope, ["key", "no"]),
            backend.aclear(scope),
            backend.aget_many(scope, ["key", "no"]),
            backend.alist_keys(scope),
            backend.aget(scope, "key"),
        )
        entry = outcomes.pop(6)
        assert isinstance(entry, StoredEntry)
        assert entry.text == "2"
        assert outcomes == [None, "1", None, None, None, "2", None, ["key"], {"key": "3"}, None, {}, [], None]


async def test_a_read_behind_a_write_that_is_refused(backend: MetastoreBackend) -> None:
    await backend.aset(TASK, "key", "0")
    outcomes = await at_once(
        put(backend, "first"),
        put(backend, "key", "1", if_version=10**15),
        backend.aget(TASK, "key"),
        put(backend, "key", "2"),
        backend.aget(TASK, "key"),
        put(backend, "key", NUL),
        backend.aget(TASK, "key"),
    )
    assert isinstance(outcomes[1], VersionConflictError)
    assert isinstance(outcomes[5], DatabaseError)
    assert [outcomes[place] for place in (2, 4, 6)] == ["0", "2", "2"]


async def test_a_read_behind_a_write_that_has_expired(backend: MetastoreBackend) -> None:
    outcomes = await at_once(
        put(backend, "first"), put(backend, "key", "1", expires_at=LONG_AGO), backend.aget(TASK, "key")
    )
    assert outcomes[2] is None


async def test_a_clear_of_all_map_indices_is_behind_and_before(backend: MetastoreBackend) -> None:
    mapped = [TaskScope("dag", "run", "mapped", index) for index in range(3)]
    for _ in range(10):
        outcomes = await at_once(
            *(put(backend, "key", scope=scope) for scope in mapped),
            backend.acommit(Commit((Clear(mapped[0], all_map_indices=True),))),
            *(backend.aget(scope, "key") for scope in mapped),
            put(backend, "key", "2", mapped[1]),
            *(backend.aget(scope, "key") for scope in mapped),
        )
        assert [each for each in outcomes if not isinstance(each, CommitResult)] == [None, None, None, None, "2", None]


async def test_events_of_a_watcher_keep_their_order(backend: MetastoreBackend, orders: AssetScope) -> None:
    lease = await backend.aclaim_watcher(orders, "watcher", owner="test")
    other = await backend.aclaim_watcher(await backend.aregister_asset(Asset("a")), "watcher", owner="test")
    commits = [
        Commit((Put(orders, f"{9 - number}", "1"),), (NewEvent(f"{number}"),), lease if number % 3 else other)
        for number in range(9)
    ]
    outcomes = await at_once(put(backend, "first"), *(backend.acommit(commit) for commit in commits))
    assert not [outcome for outcome in outcomes if isinstance(outcome, StoreError)]
    listed = [event.payload for event in await backend.alist_events(orders)]
    assert listed == [1, 2, 4, 5, 7, 8]


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
