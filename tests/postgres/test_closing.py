"""A store that is closed while something is on its way: everybody is told, and of nothing but that."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any

import asyncpg
import pytest

from asyncstore import Asset, Commit, MetastoreBackend, NewEvent, OutcomeUnknownError, Put, StoreClosedError, TaskScope
from asyncstore.backends.metastore.postgresql import database, eager
from tests.postgres.client import Connection, LoopThread
from tests.postgres.held import EVENTS, held, rows_of, waiting
from tests.postgres.processes import PATIENCE
from tests.postgres.proxy import Proxy
from tests.postgres.store_support import TASK, eventually

pytestmark = pytest.mark.anyio

OTHER = TaskScope("other", "run", "task")
PATIENT: dict[str, Any] = {"lock_timeout": 60.0, "operation_timeout": 60.0}


@pytest.fixture(autouse=True)
async def heard(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[None]:
    """Expect in the end that no loop tells of a task or an error that nobody looked at."""
    monkeypatch.setattr(database, "_PATIENCE", 0.05)  # what waits here waits for ever
    told: list[object] = []
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: told.append(context))
    yield
    gc.collect()
    await asyncio.sleep(0)
    loop.set_exception_handler(before)
    assert told == []
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


async def outcome(work: Awaitable[object]) -> str:
    """Say what a caller is told, which may be anything."""
    try:
        return f"gave {await work}"
    except BaseException as error:
        return type(error).__name__


async def closed(backend: MetastoreBackend, running: list[asyncio.Task[str]]) -> list[str]:
    """Close; gives what was told of each."""
    async with asyncio.timeout(PATIENCE):
        await backend.aclose()
        return list(await asyncio.gather(*running))


async def alone(bare: Connection) -> bool:
    """Tell whether nobody of ours is connected any more."""
    await bare.execute("SELECT pg_stat_clear_snapshot()")
    count = await bare.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'asyncstore'"
    )
    return bool(count == 0)


TOLD = {StoreClosedError.__name__, OutcomeUnknownError.__name__}


def start(*works: Awaitable[object]) -> list[asyncio.Task[str]]:
    return [asyncio.create_task(outcome(work)) for work in works]


async def test_writes_that_wait_for_a_lock(database_url: str) -> None:
    backend = MetastoreBackend(database_url, **PATIENT)
    await backend.aset(TASK, "locked", "0")
    async with held(database_url, rows_of("locked")) as bare:
        running = start(
            *(backend.aset(TASK, "locked", "1") for _ in range(3)),
            backend.acommit(Commit((Put(TASK, "locked", "2"), Put(OTHER, "key", "2")))),
            backend.acommit(Commit((Put(TASK, "locked", "3", if_version=1),))),
            backend.adelete(TASK, "locked"),
            backend.aclear(TASK),
            backend.adelete_run(TASK.dag_id, TASK.run_id),
        )
        await waiting(bare, 2)  # one for all of the batch, and the deletion of the run
        assert not set(await closed(backend, running)) - TOLD
        with pytest.raises(StoreClosedError):
            await backend.aget(TASK, "locked")


async def test_writes_in_the_same_turn(database_url: str) -> None:
    """They are sent, and the first of them is not answered yet."""
    backend = MetastoreBackend(database_url, **PATIENT)
    await backend.aset(TASK, "locked", "0")
    async with held(database_url, rows_of("locked")):
        running = start(*(backend.aset(TASK, "locked", str(number)) for number in range(5)))
        await asyncio.sleep(0)
        assert not set(await closed(backend, running)) - TOLD


async def test_events_that_wait(database_url: str) -> None:
    backend = MetastoreBackend(database_url, **PATIENT)
    asset = await backend.aregister_asset(Asset("orders"))
    lease = await backend.aclaim_watcher(asset, "watcher", owner="a test")
    async with held(database_url, EVENTS) as bare:
        running = start(*(backend.acommit(Commit((), (NewEvent("1"),), lease)) for _ in range(3)))
        await waiting(bare)
        assert not set(await closed(backend, running)) - TOLD


async def test_reads_that_wait_for_a_lock(database_url: str) -> None:
    backend = MetastoreBackend(database_url, **PATIENT)
    await backend.aset(TASK, "key", "0")
    async with held(database_url, "LOCK TABLE asyncstore_task_state") as bare:
        running = start(
            *(backend.aget(TASK, "key") for _ in range(3)),
            backend.aget_entry(TASK, "key"),
            backend.aget_many(TASK, ["key"]),
            backend.alist_keys(TASK),
        )
        await waiting(bare, 3)
        assert not set(await closed(backend, running)) - TOLD


async def test_reads_behind_a_write(database_url: str, proxy: Proxy) -> None:
    """The write is not answered, and so they have not had their turn."""
    backend = MetastoreBackend(proxy.through(database_url), **PATIENT)
    await backend.aset(TASK, "key", "0")
    await backend.aget(TASK, "key")
    proxy.stall("server")
    write = start(backend.aset(TASK, "key", "1"))
    await asyncio.sleep(0)
    reads = start(
        backend.aget(TASK, "key"),
        backend.aget_entry(TASK, "key"),
        backend.aget_many(TASK, ["key"]),
        backend.alist_keys(TASK),
        backend.aget(OTHER, "key"),
    )
    behind = start(backend.aset(TASK, "key", "2"), backend.adelete(TASK, "key"))
    await asyncio.to_thread(proxy.wait_held, "server")
    told = await closed(backend, [*write, *reads, *behind])
    assert not set(told) - TOLD
    assert told[0] == "OutcomeUnknownError", "it was sent"
    assert told[1:6] == ["StoreClosedError"] * 5


async def test_calls_of_other_threads(database_url: str) -> None:
    backend = MetastoreBackend(database_url, **PATIENT)
    await backend.aset(TASK, "locked", "0")
    with LoopThread("another loop") as thread:
        async with held(database_url, rows_of("locked")) as bare:
            told_there = outcome(backend.aset(TASK, "locked", "1"))
            elsewhere = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(told_there, thread.loop))
            running = start(
                asyncio.to_thread(backend.set, TASK, "locked", "2"),
                asyncio.to_thread(backend.run_blocking, lambda: backend.adelete_run(TASK.dag_id, TASK.run_id)),
                elsewhere,
            )
            await waiting(bare, 3)
            told = await closed(backend, running)
    assert set(told[:2]) <= TOLD
    assert told[2] in {f"gave {kind}" for kind in TOLD}


async def test_a_task_group_does_not_end_as_if_it_were_written(database_url: str) -> None:
    before = asyncio.all_tasks()
    backend = MetastoreBackend(database_url, **PATIENT)
    await backend.aset(TASK, "locked", "0")
    async with held(database_url, rows_of("locked")) as bare:

        async def close() -> None:
            await waiting(bare)
            await backend.aclose()

        async def both() -> None:
            async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
                group.create_task(backend.aset(TASK, "locked", "1"))
                group.create_task(close())

        with pytest.raises(ExceptionGroup) as caught:
            await both()
        assert {type(error).__name__ for error in caught.value.exceptions} <= TOLD
        # The close itself was cancelled, by the group: what was just being opened goes when it is there.
        async with asyncio.timeout(PATIENCE):
            while opening := asyncio.all_tasks() - before:
                await asyncio.wait(opening)
        await eventually(lambda: alone(bare), "the connections to go")


async def test_what_was_begun_in_the_very_turn_of_the_close_tells_its_callers(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = MetastoreBackend(database_url, **PATIENT)
    await backend.aset(TASK, "key", "0")

    def fails_as_it_closes(call: Coroutine[Any, Any, Any], done: Callable[..., object]) -> None:
        call.close()
        lane: Any = getattr(done, "__self__", None)
        done(None, asyncpg.LockNotAvailableError("locked"))
        lane.close()

    with monkeypatch.context() as patch:
        patch.setattr(eager, "start", fails_as_it_closes)
        running = start(*(backend.aset(TASK, "key", str(number)) for number in range(3)))
        await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait(running)
    await backend.aclose()
