"""Transactions that nobody keeps open, warnings, notifications, and what a database is set to."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from asyncstore import (
    Asset,
    Commit,
    DatabaseError,
    Delete,
    MetastoreBackend,
    NewEvent,
    Put,
    SchemaError,
    TaskScope,
    VersionConflictError,
)
from tests.postgres.databases import Databases
from tests.postgres.held import EVENTS, held, rows_of, waiting
from tests.postgres.processes import PATIENCE, until
from tests.postgres.store_support import TASK, eventually
from tests.postgres.support import connected
from tests.postgres.writing_child import COUNTER, LANES, count

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
OTHER = TaskScope("other", "run", "task")


@pytest.fixture
def database(database_url: str) -> str:
    return database_url.rpartition("/")[2]


@pytest.fixture
async def backend(database_url: str) -> AsyncGenerator[MetastoreBackend]:
    async with MetastoreBackend(database_url, lock_timeout=60.0, operation_timeout=60.0) as backend:
        yield backend


# A loop that is blocked.

_BUSY = (
    "SELECT state, query FROM pg_stat_activity"
    " WHERE application_name = 'asyncstore' AND datname = $1 AND state <> 'idle'"
)


async def haltingly(running: asyncio.Future[Any], postgres: Databases, database: str) -> None:
    """Go on by single turns of the loop; between them the loop is blocked until the server has nothing to do for us."""

    def idle() -> bool:
        return not postgres.fetch(_BUSY, database)

    for _ in range(10_000):
        await asyncio.sleep(0)
        until(idle, "transactions to end while the loop is blocked", patience=PATIENCE / 3)
        if running.done():
            return
    raise AssertionError("it did not end")


Begin = Callable[[MetastoreBackend], Awaitable[object]]


async def _delete_asset(backend: MetastoreBackend) -> None:
    await backend.adelete_asset(await backend.aregister_asset(Asset("orders")))


async def _claim(backend: MetastoreBackend) -> None:
    await backend.aclaim_watcher(await backend.aregister_asset(Asset("orders")), "watcher", owner="a test")


BEGINS: dict[str, Begin] = {
    "register": lambda backend: backend.aregister_asset(Asset("new")),
    "delete_run": lambda backend: backend.adelete_run(TASK.dag_id, TASK.run_id),
    "delete_asset": _delete_asset,
    "claim": _claim,
    "commit": lambda backend: backend.acommit(Commit((Put(TASK, "a", "1"), Put(OTHER, "b", "2")))),
}


@pytest.mark.parametrize("name", BEGINS)
async def test_a_loop_that_is_blocked_leaves_no_transaction_open(
    name: str, backend: MetastoreBackend, postgres: Databases, database: str
) -> None:
    await backend.aset(TASK, "key", "0")
    await backend.aregister_asset(Asset("orders"))
    await haltingly(asyncio.ensure_future(BEGINS[name](backend)), postgres, database)


@pytest.mark.parametrize("kind", ["a row", "events"])
async def test_a_loop_that_is_blocked_while_a_commit_waits_aside(
    kind: str, backend: MetastoreBackend, postgres: Databases, database: str, database_url: str
) -> None:
    await backend.aset(TASK, "locked", "0")
    lease = await backend.aclaim_watcher(await backend.aregister_asset(Asset("orders")), "watcher", owner="a test")
    events = (NewEvent("1"),) if kind == "events" else ()
    async with held(database_url, EVENTS if kind == "events" else rows_of("locked")) as bare:
        running = [
            asyncio.ensure_future(backend.acommit(Commit((Put(TASK, "locked", str(number)),), events, lease)))
            for number in range(3)
        ]
        await asyncio.sleep(0)
        await backend.aset(OTHER, "beside", "1")
        await waiting(bare)
    await haltingly(asyncio.gather(*running), postgres, database)
    assert await backend.aget(TASK, "locked") == "2"


# Notifications.


class Writer:
    """A process that writes."""

    def __init__(self, url: str, name: str) -> None:
        command = [sys.executable, "-W", "error", "-m", "tests.postgres.writing_child", url, name]
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def ask(self, what: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def hear(self) -> list[int]:
        assert self._process.stdout is not None
        answer: list[int] = json.loads(self._process.stdout.readline())
        return answer

    def end(self) -> None:
        self._process.communicate(timeout=PATIENCE)
        assert self._process.returncode == 0

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()


_SHARED = (
    "SELECT count(DISTINCT pid % 64) < count(*) FROM pg_stat_activity"
    " WHERE application_name = 'asyncstore' AND datname = current_database()"
)
#: As a listener of ours does.
_WATCH = "SELECT pg_advisory_lock_shared(1634956147, 1000 + slot) FROM generate_series(0, 63) AS slot"


async def test_two_processes_notify_only_while_somebody_watches(database_url: str) -> None:
    heard: list[str] = []
    async with connected(database_url) as listener, connected(database_url) as bare:

        def hear(connection: object, process: int, channel: str, payload: object) -> None:
            heard.append(str(payload))

        await cast("Any", listener).add_listener("asyncstore", hear)
        with ExitStack() as stack:
            writers = [stack.enter_context(Writer(database_url, name)) for name in ("one", "two")]
            for writer in writers:
                writer.ask("open")
                await asyncio.to_thread(writer.hear)
            # Those whose processes on the server share a slot may take each other for a listener.
            while await bare.fetchval(_SHARED):
                writers[1].ask("open")
                await asyncio.to_thread(writers[1].hear)
            versions: list[int] = []
            for watched in (False, True):
                if watched:
                    await bare.execute(_WATCH)
                for writer in writers:
                    writer.ask(20)
                versions += [each for writer in writers for each in await asyncio.to_thread(writer.hear)]
                end = f"end {watched}"
                await bare.execute(f"NOTIFY asyncstore, '{end}'")
                await eventually(lambda end=end: end in heard, "the last notification")  # type: ignore[misc]
                assert (len(heard) > 1) is watched, heard[:10]
                heard.clear()
            assert len(set(versions)) == len(versions) == 2 * 2 * 20 * LANES
            for writer in writers:
                await asyncio.to_thread(writer.end)
        found = "SELECT value FROM asyncstore_task_state WHERE key = 'count'"
        assert int(await bare.fetchval(found)) == len(versions)


# Warnings.

_GRUMBLE = """
CREATE FUNCTION grumble() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE WARNING 'this is what a standby that is gone would be told by';
  RAISE EXCEPTION 'no';
END $$;
CREATE TRIGGER grumble BEFORE INSERT OR UPDATE OR DELETE ON asyncstore_task_state
FOR EACH ROW EXECUTE FUNCTION grumble();
ALTER TABLE asyncstore_task_state DISABLE TRIGGER grumble
"""


@pytest.fixture
async def grumbling(database_url: str, backend: MetastoreBackend) -> AsyncGenerator[Callable[[bool], Awaitable[None]]]:
    """Have the server warn, and refuse, whatever is done to task state; or no more."""
    async with connected(database_url) as bare:
        await bare.execute(_GRUMBLE)

        async def switch(on: bool) -> None:
            await bare.execute(f"ALTER TABLE asyncstore_task_state {'ENABLE' if on else 'DISABLE'} TRIGGER grumble")

        yield switch


WRITES: dict[str, Begin] = {
    "set": lambda backend: backend.aset(TASK, "key", "1"),
    "set of a new key": lambda backend: backend.aset(TASK, "new", "1"),
    "several": lambda backend: backend.acommit(Commit((Put(TASK, "key", "1"), Delete(TASK, "other")))),
    "delete_run": lambda backend: backend.adelete_run(TASK.dag_id, TASK.run_id),
}


@pytest.mark.parametrize("name", WRITES)
async def test_a_warning_of_an_earlier_statement_puts_no_later_write_in_doubt(
    name: str, backend: MetastoreBackend, grumbling: Callable[[bool], Awaitable[None]]
) -> None:
    await backend.acommit(Commit((Put(TASK, "key", "0"), Put(TASK, "other", "0"))))
    for _ in range(2):  # the second on connections that are open, with what they have prepared
        await grumbling(True)
        with pytest.raises(DatabaseError, match="no"):
            await WRITES[name](backend)
        assert await backend.aget(TASK, "key") is not None
        await grumbling(False)
        await asyncio.gather(WRITES[name](backend), backend.aset(OTHER, "key", "1"))
        await backend.aset(TASK, "key", "1")


async def test_a_warning_beside_a_read(backend: MetastoreBackend) -> None:
    """As where a process that is to be ended is gone already: the server warns, and nothing is in doubt."""
    await backend.aset(TASK, "key", "0")
    await backend.aget(TASK, "key")
    here = cast("Any", backend)._database._here.get()
    for lane in (here.writes, here.reads._lanes[0]):
        assert await lane._link.run("SELECT pg_terminate_backend(99999999)") == [(False,)]
    found, _ = await asyncio.gather(backend.aget(TASK, "key"), backend.aset(TASK, "key", "1"))
    assert found in {"0", "1"}, "they go at the same time"
    await here.writes._link.run("SELECT pg_terminate_backend(99999999)")
    await asyncio.gather(*(backend.aset(TASK, f"key{number}", "1") for number in range(5)))


# Sessions.


@pytest.mark.parametrize("kind", ["task", "asset"])
async def test_two_sessions_that_both_find_a_key_absent(
    kind: str, backend: MetastoreBackend, database_url: str
) -> None:
    scope = TASK if kind == "task" else await backend.aregister_asset(Asset("orders"))
    await backend.aset(scope, "other", "0")
    engine = create_async_engine(database_url, connect_args={"server_settings": {"application_name": "asyncstore"}})
    async with AsyncSession(engine) as one, AsyncSession(engine) as two, connected(database_url) as bare:
        await backend.acommit(Commit((Put(scope, "key", "1", if_version=0),)), session=one)
        late = asyncio.ensure_future(backend.acommit(Commit((Put(scope, "key", "2", if_version=0),)), session=two))
        await waiting(bare)
        await one.commit()
        with pytest.raises(VersionConflictError) as caught:
            await late
        entry = await backend.aget_entry(scope, "key")
        assert entry is not None
        assert (caught.value.key, caught.value.expected, caught.value.actual) == ("key", 0, entry.version)
        await two.rollback()
        await backend.acommit(Commit((Put(scope, "key", "3", if_version=entry.version),)), session=two)
        await two.commit()
    await engine.dispose()
    assert await backend.aget(scope, "key") == "3"


# Loops.


# Python warns of each loop that was closed before the store was; the server must not suffer from it.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_loops_that_ended_leave_no_connection_behind(postgres: Databases, database_url: str, database: str) -> None:
    backend = MetastoreBackend(database_url)
    loops: list[asyncio.AbstractEventLoop] = []

    async def write(number: int) -> None:
        await backend.aset(TASK, "key", str(number))
        assert await backend.aget(TASK, "key") == str(number)

    for number in range(5):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(write(number))
        loop.close()
        loops.append(loop)  # nobody collects it
        del loop
    last = asyncio.new_event_loop()
    last.run_until_complete(write(5))
    until(lambda: len(postgres.connections(database)) <= 2, "connections to close", patience=PATIENCE / 6)
    assert len(postgres.connections(database)) == 2, "those of the last"
    last.run_until_complete(backend.aclose())
    last.close()
    loops.clear()
    gc.collect()


# What a database is set to.


@pytest.mark.parametrize("level", ["serializable", "repeatable read"])
async def test_a_database_whose_transactions_are_isolated_more(
    level: str, postgres: Databases, database_url: str, database: str
) -> None:
    postgres.fetch(f"ALTER DATABASE \"{database}\" SET default_transaction_isolation = '{level}'")
    async with MetastoreBackend(database_url) as one, MetastoreBackend(database_url) as two:
        async with asyncio.timeout(PATIENCE):
            versions = await asyncio.gather(*(count(each) for each in (one, two) for _ in range(10)))
            await asyncio.gather(*(each.adelete_run("dag", f"run{run}") for each in (one, two) for run in range(3)))
            assets = await asyncio.gather(*(each.aregister_asset(Asset("orders")) for each in (one, two)))
        assert assets[0] == assets[1]
        assert len(set(versions)) == 20
        assert await one.aget(COUNTER, "count") == "20"


async def test_a_database_of_another_encoding_is_refused(postgres: Databases, database: str) -> None:
    name = f"latin_{database}"
    postgres.fetch(
        f"CREATE DATABASE \"{name}\" TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' STRATEGY wal_log"
    )
    try:
        backend = MetastoreBackend(postgres.url(name))
        with pytest.raises(SchemaError, match=r"LATIN1.*UTF8"):
            await backend.aupgrade()
        assert await backend.arevision() is None
        await backend.aclose()
        made = postgres.fetch("SELECT relname FROM pg_class WHERE relname LIKE 'asyncstore%'", database=name)
        assert made == [], "nothing was made"
        postgres.expect_no_connections(name)
    finally:
        postgres.drop_database(name)
