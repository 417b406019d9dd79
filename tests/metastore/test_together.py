"""What is asked for in one turn of the loop: each caller has its own outcome, and a key's calls keep their order."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable
from datetime import UTC, datetime
from typing import Any

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

from .support import PATIENCE, TASK, at_once, made, put

pytestmark = pytest.mark.anyio

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
SURROGATE = '"closed \ud800"'


@pytest.fixture(params=["memory", "file", "postgresql"])
def any_url(request: pytest.FixtureRequest, url: str) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("database_url"))
    return "sqlite://" if request.param == "memory" else url


@pytest.fixture
async def backend(any_url: str) -> AsyncGenerator[MetastoreBackend]:
    async with MetastoreBackend(any_url, lock_timeout=PATIENCE) as backend:
        await backend.aset(TASK, "first", "0")
        yield backend


@pytest.fixture
async def orders(backend: MetastoreBackend) -> AssetScope:
    return await backend.aregister_asset(Asset("orders"))


async def call_in_order(backend: MetastoreBackend, scope: Scope, again: Scope, *, new: bool) -> None:
    """Write and read a key in one turn of the loop, by two names of one scope."""
    for _ in range(10):
        if not new:
            await backend.aset(scope, "key", "0")
        outcomes = await at_once(
            backend.aset(scope, "key", "1"),
            backend.aget(again, "key"),
            backend.adelete(scope, "key"),
            backend.aget(again, "key"),
            backend.aset(again, "key", "2"),
            backend.aget(scope, "key"),
            backend.aget_entry(scope, "key"),
            backend.aset(scope, "key", "3"),
            backend.alist_keys(again),
            backend.aget_many(scope, ["key", "no"]),
            backend.aclear(scope),
            backend.aget_many(again, ["key", "no"]),
            backend.alist_keys(scope),
            backend.aget(scope, "key"),
        )
        entry = outcomes.pop(6)
        assert isinstance(entry, StoredEntry)
        assert entry.text == "2"
        assert outcomes == [None, "1", None, None, None, "2", None, ["key"], {"key": "3"}, None, {}, [], None]


async def test_each_refusal_is_its_own(backend: MetastoreBackend, orders: AssetScope) -> None:
    resting = await backend.aregister_asset(Asset("resting"))
    lost = await backend.aclaim_watcher(orders, "watcher", owner="one")
    held = await backend.aclaim_watcher(orders, "watcher", owner="two")
    await backend.adeactivate_asset(resting)
    version = (await backend.acommit(Commit((Put(TASK, "known", "1"),)))).versions[0]
    outcomes = await at_once(
        put(backend, "first"),
        put(backend, "a", scope=AssetScope(10**9)),
        put(backend, "a", scope=resting),
        put(backend, "a", scope=AssetScope(name="nobody's")),
        put(backend, "known", "2", if_version=version + 10**6),
        backend.acommit(Commit((Put(TASK, "not written", "1"),), (NewEvent("1"),), lost)),
        backend.acommit(Commit((Put(TASK, "written", "1"),), (NewEvent("1", "key"),), held)),
        backend.acommit(Commit((), (NewEvent("2", "key"),), held)),
        backend.adelete(AssetScope(10**9), "a"),
        backend.acommit(Commit((Put(TASK, "half", "1"), Delete(resting, "a")))),
        put(backend, "a", scope=orders, expires_at=LONG_AGO),
        put(backend, "known", "3", if_version=version),
        put(backend, "known", "4", if_version=version),
        backend.acommit(Commit()),
    )
    kinds = [
        *[CommitResult, AssetNotFoundError, AssetInactiveError, AssetNotFoundError, VersionConflictError],
        *[LeaseLostError, CommitResult, CommitResult, AssetNotFoundError, AssetInactiveError, ValueError],
        *[CommitResult, VersionConflictError, CommitResult],
    ]
    assert [type(outcome) for outcome in outcomes] == kinds
    assert (outcomes[4].expected, outcomes[4].actual) == (version + 10**6, version)
    assert (outcomes[12].expected, outcomes[12].actual) == (version, outcomes[11].versions[0])
    assert outcomes[7].events[0].duplicate
    assert outcomes[7].events[0].id == outcomes[6].events[0].id
    assert await backend.alist_keys(TASK) == ["first", "known", "written"]
    assert await backend.aget(TASK, "known") == "3"
    assert [event.payload for event in await backend.alist_events()] == [1]


async def test_errors_are_not_shared(backend: MetastoreBackend) -> None:
    calls = [put(backend, "first"), *(put(backend, "a", scope=AssetScope(10**9)) for _ in range(3))]
    _, *errors = await at_once(*calls)
    assert all(isinstance(error, AssetNotFoundError) for error in errors)
    assert len({id(error) for error in errors}) == 3


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
    assert made(outcomes) == [True] * 2 + [False] * 19
    assert {error.actual for error in outcomes[2:]} == set(outcomes[1].versions)
    assert await backend.aget(TASK, "key") == "0"


async def test_checked_commits_of_several_keys_are_whole_or_nothing(backend: MetastoreBackend) -> None:
    def pair(number: int, **check: Any) -> Awaitable[Any]:
        changes = (Put(TASK, "one", f"{number}"), Delete(TASK, "first"), Put(TASK, "two", f"{number}", **check))
        return backend.acommit(Commit(changes))

    outcomes = await at_once(
        put(backend, "two", "known"),
        pair(1, if_version=0),
        backend.aget_many(TASK, ["first", "one", "two"]),
        pair(2),
        pair(3, if_version=0),
        put(backend, "two", "4"),
        backend.aget_many(TASK, ["first", "one", "two"]),
    )
    assert [type(outcomes[place]) for place in (1, 4)] == [VersionConflictError] * 2
    assert outcomes[2] == {"first": "0", "two": "known"}
    assert outcomes[6] == {"one": "2", "two": "4"}
    versions = [version for place in (0, 3, 5) for version in outcomes[place].versions if version]
    assert versions == sorted(set(versions))
    assert outcomes[4].actual == outcomes[3].versions[2]


@pytest.mark.parametrize("new", [True, False], ids=["new", "known"])
@pytest.mark.parametrize("asset", [True, False], ids=["asset", "task"])
async def test_the_order_of_calls_of_a_key_is_kept(
    backend: MetastoreBackend, orders: AssetScope, new: bool, asset: bool
) -> None:
    scope: Scope = orders if asset else TaskScope("dag", "run", "another")
    await call_in_order(backend, scope, scope, new=new)


async def test_a_read_behind_a_write_that_is_refused(backend: MetastoreBackend) -> None:
    await backend.aset(TASK, "key", "0")
    outcomes = await at_once(
        put(backend, "first"),
        put(backend, "key", "1", if_version=10**15),
        backend.aget(TASK, "key"),
        put(backend, "key", "2"),
        backend.aget(TASK, "key"),
        put(backend, "key", SURROGATE),
        backend.aget(TASK, "key"),
    )
    assert isinstance(outcomes[1], VersionConflictError)
    assert isinstance(outcomes[5], DatabaseError | UnicodeEncodeError)
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
