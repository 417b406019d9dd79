"""Each caller of a batch gets its own outcome, in the order of the calls of a key, whatever is beside it."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from asyncstore import (
    Asset,
    AssetInactiveError,
    AssetNotFoundError,
    AssetScope,
    Commit,
    CommitResult,
    DatabaseError,
    MetastoreBackend,
    NewEvent,
    Put,
    Scope,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
    TaskScope,
)
from asyncstore import StoreBusyError as Busy
from asyncstore.backends.metastore.sqlite import desk

from .support import PATIENCE, TASK, Child, Connections, at_once, locked, made, put
from .test_together import call_in_order

pytestmark = pytest.mark.anyio

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
SURROGATE = '"closed \ud800"'


@pytest.fixture(params=["file", "memory"])
async def backend(request: pytest.FixtureRequest, url: str) -> AsyncGenerator[MetastoreBackend]:
    async with MetastoreBackend(url if request.param == "file" else "sqlite://", lock_timeout=PATIENCE) as backend:
        await backend.aset(TASK, "first", "0")
        yield backend


@pytest.fixture
async def on_file(url: str, connections: Connections) -> AsyncGenerator[MetastoreBackend]:
    """Give a backend whose connections can be watched; the writing one is the first."""
    async with MetastoreBackend(url, lock_timeout=PATIENCE) as backend:
        await backend.aset(TASK, "first", "0")
        yield backend


@pytest.fixture
async def orders(backend: MetastoreBackend) -> AssetScope:
    return await backend.aregister_asset(Asset("orders"))


def spoil(path: Path, key: str) -> None:
    """Leave a value that is no text."""
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("UPDATE asyncstore_task_state SET value = CAST(x'ff' AS TEXT) WHERE key = ?", (key,))


# Neighbours.


BAD: dict[str, Callable[[MetastoreBackend], Awaitable[Any]]] = {
    "a value that is no text": lambda backend: put(backend, "bad", SURROGATE),
    "a key that is no text": lambda backend: put(backend, "k\udfff"),
    "a naive expiry": lambda backend: put(backend, "bad", expires_at=datetime(2000, 1, 1)),
    "no text, but a dict": lambda backend: put(backend, "bad", cast("str", {})),
    "no text, but nothing": lambda backend: put(backend, "bad", cast("str", None)),
    "no scope": lambda backend: put(backend, "bad", scope=cast("Scope", "no scope")),
    "half of it": lambda backend: backend.acommit(Commit((Put(TASK, "bad", "1"), Put(TASK, "worse", SURROGATE)))),
    "half of it in a new instance": lambda backend: backend.acommit(
        Commit((Put(TaskScope("dag", "run", "new"), "bad", "1"), Put(TASK, "worse", SURROGATE)))
    ),
}


@pytest.mark.parametrize("place", [1, 2, 5])
@pytest.mark.parametrize("bad", BAD)
async def test_what_cannot_be_written_down_fails_its_own_caller(
    backend: MetastoreBackend, bad: str, place: int
) -> None:
    calls = [put(backend, f"{number}") for number in range(5)]
    calls.insert(place, BAD[bad](backend))
    outcomes = await asyncio.wait_for(at_once(*calls), PATIENCE)
    error = outcomes.pop(place)
    # Never the driver's own error.
    assert isinstance(error, StoreError | ValueError | TypeError | AttributeError)
    assert made(outcomes) == [True] * 5
    assert await backend.alist_keys(TASK) == ["0", "1", "2", "3", "4", "first"]
    assert await backend.alist_keys(TaskScope("dag", "run", "new")) == []


async def test_what_is_written_as_another_type_fails_nobody_else(backend: MetastoreBackend) -> None:
    outcomes = await at_once(*(put(backend, "a") for _ in range(3)), put(backend, "b", cast("str", 1)))
    assert made(outcomes)[:3] == [True] * 3


async def test_a_read_does_not_look_at_what_is_wrong_beside_it(backend: MetastoreBackend) -> None:
    outcomes = await at_once(
        put(backend, "a"), put(backend, "b", scope=cast("Scope", "no scope")), backend.aget(TASK, "first")
    )
    assert outcomes[2] == "0"


async def test_what_cannot_be_read_fails_its_own_caller(backend: MetastoreBackend) -> None:
    calls: list[Awaitable[Any]] = [backend.aget(TASK, "first") for _ in range(4)]
    bad = [backend.aget(cast("TaskScope", "no scope"), "a"), backend.aget(TASK, "\udfff")]
    bad.append(backend.aget(TASK, cast("str", {})))
    outcomes = await at_once(*calls[:2], *bad, *calls[2:])
    assert outcomes[:2] + outcomes[5:] == ["0"] * 4
    assert [type(outcome) for outcome in outcomes[2:5]] == [AttributeError, UnicodeEncodeError, DatabaseError]


async def test_a_value_that_something_else_wrote_fails_who_reads_it(on_file: MetastoreBackend, path: Path) -> None:
    await on_file.aset(TASK, "bad", "0")
    spoil(path, "bad")
    read = [on_file.aget(TASK, key) for key in ("first", "first", "bad", "first", "bad")]
    behind = [put(on_file, "a"), put(on_file, "b", "1"), on_file.aget(TASK, "b")]
    outcomes = await at_once(*read, *behind)
    assert [outcomes[place] for place in (0, 1, 3)] == ["0"] * 3
    assert [type(outcomes[place]) for place in (2, 4)] == [DatabaseError] * 2
    assert made(outcomes[5:7]) == [True] * 2
    assert outcomes[7] == "1"


async def test_errors_are_not_shared(on_file: MetastoreBackend, path: Path) -> None:
    _, *errors = await at_once(put(on_file, "a"), *(put(on_file, "a", scope=AssetScope(10**9)) for _ in range(3)))
    assert {type(error) for error in errors} == {AssetNotFoundError}
    path.unlink()
    errors += await at_once(*(put(on_file, "a") for _ in range(3)), *(on_file.aget(TASK, "a") for _ in range(3)))
    assert {type(error) for error in errors[3:]} == {StoreUnavailableError}
    assert len({id(error) for error in errors}) == 9


async def test_an_event_that_is_refused_leaves_no_key(backend: MetastoreBackend, orders: AssetScope) -> None:
    lease = await backend.aclaim_watcher(orders, "watcher", owner="test")
    refused = backend.acommit(Commit((), (NewEvent(SURROGATE, "key"),), lease))
    outcomes = await at_once(put(backend, "a"), refused, put(backend, "b"))
    assert made(outcomes) == [True, False, True]
    result = await backend.acommit(Commit((), (NewEvent("1", "key"),), lease))
    assert not result.events[0].duplicate
    assert [event.payload for event in await backend.alist_events()] == [1]


# The disk.


@pytest.mark.parametrize("place", [0, 1, 4])
async def test_no_space_for_one_of_them(on_file: MetastoreBackend, connections: Connections, place: int) -> None:
    writer = connections.opened[0]
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count = {pages + 3}")
    calls = [put(on_file, "0"), put(on_file, "1"), on_file.aget(TASK, "1"), put(on_file, "1", "2")]
    big = on_file.acommit(Commit((Put(TASK, "0", "new"), Put(TASK, "big", "x" * 500_000))))
    calls.insert(place, big)
    outcomes = await at_once(*calls)
    assert isinstance(outcomes.pop(place), StoreFullError)
    assert made(outcomes) == [True, True, False, True]
    assert outcomes[2] == "1"
    versions = [outcome.versions[0] for outcome in outcomes if isinstance(outcome, CommitResult)]
    assert versions == sorted(set(versions))
    assert await on_file.aget_many(TASK, ["0", "1", "big"]) == {"0": "1", "1": "2"}


LIMITED = """
import asyncio, resource
from asyncstore import MetastoreBackend, TaskScope
scope = TaskScope("dag", "run", "task")
async def main():
    async with MetastoreBackend(sys.argv[1]) as backend:
        await backend.aset(scope, "first", "0")
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
        calls = [backend.aset(scope, key, "1" if key != "big" else "x" * 1_000_000) for key in ("a", "b", "big", "c")]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        say([type(outcome).__name__ for outcome in outcomes])
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        say(await backend.aget_many(scope, ["a", "b", "big", "c"]))
asyncio.run(main())
"""


def test_a_file_that_may_not_grow_for_one_of_them(url: str) -> None:
    with Child(LIMITED, url) as child:
        assert child.hear() == ["NoneType", "NoneType", "StoreUnavailableError", "NoneType"]
        assert child.hear() == {"a": "1", "b": "1", "c": "1"}


# Those who read, and those who write.


async def test_reads_that_fail_leave_the_versions_of_writes_alone(
    on_file: MetastoreBackend, path: Path, connections: Connections
) -> None:
    await on_file.aset(TASK, "bad", "0")
    spoil(path, "bad")
    before = (await on_file.acommit(Commit((Put(TASK, "key", "0"),)))).versions[0]
    writer = connections.opened[0]
    begun, go = threading.Event(), threading.Event()

    def pause(statement: str) -> None:
        if "asyncstore_task_state" in statement and writer.in_transaction:
            begun.set()
            assert go.wait(PATIENCE)

    writer.before = pause
    writing = [asyncio.ensure_future(put(on_file, "key", f"{number}")) for number in range(5)]
    await asyncio.to_thread(begun.wait, PATIENCE)
    outcomes = await at_once(*(on_file.aget(TASK, key) for key in ("no", "bad", "neither")))
    assert isinstance(outcomes[1], DatabaseError)
    writer.before = None
    go.set()
    versions = [before] + [(await each).versions[0] for each in writing]
    assert versions == sorted(set(versions))


class _Later:
    """The module `time`, a while later."""

    ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


async def test_a_read_behind_a_write_that_waits_in_vain(url: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = _Later()
    monkeypatch.setattr(desk, "time", later)
    async with MetastoreBackend(url, lock_timeout=0.05) as backend:
        await backend.aset(TASK, "key", "0")
        with locked(path):
            calls = [put(backend, "before")]
            first = asyncio.ensure_future(at_once(*calls))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            later.ahead = 0.1
            both = asyncio.ensure_future(at_once(put(backend, "key", "1"), backend.aget(TASK, "key")))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            later.ahead = PATIENCE
            last = asyncio.ensure_future(put(backend, "last"))
            assert isinstance((await first)[0], Busy)
            written, read = await both
            assert isinstance(written, Busy)
            assert read == "0"
            assert not last.done()
        assert isinstance(await last, CommitResult)


async def test_a_thread_that_does_not_start_holds_nobody_up(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refuse(self: threading.Thread) -> None:
        if self.name.startswith(("asyncstore reader", "asyncstore writer")):
            raise RuntimeError("can't start new thread")
        start(self)

    async with MetastoreBackend(url) as backend:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            calls = at_once(put(backend, "a"), put(backend, "b"), backend.aget(TASK, "no"))
            outcomes = await asyncio.wait_for(calls, 5)
            assert not [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
        calls = at_once(put(backend, "a"), put(backend, "b"), backend.aget(TASK, "a"))
        *written, read = await asyncio.wait_for(calls, 5)
        assert made(written) == [True] * 2
        assert read == "1"


# One key.


# On PostgreSQL a call by name takes its place only once the asset is found.
async def test_an_asset_by_name_is_the_same_as_by_id(backend: MetastoreBackend, orders: AssetScope) -> None:
    named = AssetScope(name="orders")
    outcomes = await at_once(*(put(backend, "key", f"{number}", named) for number in range(100)))
    versions = [outcome.versions[0] for outcome in outcomes]
    assert versions == sorted(set(versions))
    for new in (True, False):
        await call_in_order(backend, named, orders, new=new)


async def test_a_read_behind_writes_of_everything(backend: MetastoreBackend, orders: AssetScope) -> None:
    await backend.aset(orders, "key", "1")
    outcomes = await at_once(
        put(backend, "a"),
        backend.adeactivate_asset(orders),
        backend.aget(orders, "key"),
        backend.aactivate_asset(orders),
        backend.aget(orders, "key"),
        backend.adelete_run("dag", "run"),
        backend.aget(TASK, "first"),
    )
    assert isinstance(outcomes[2], AssetInactiveError)
    assert outcomes[4] == "1"
    assert outcomes[6] is None
