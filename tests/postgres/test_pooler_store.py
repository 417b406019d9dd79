"""A store behind PgBouncer in transaction mode, where each transaction may have another connection to the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import ExitStack, aclosing, asynccontextmanager
from datetime import timedelta
from typing import Any, cast

import anyio
import pytest
from anyio.to_thread import run_sync
from sqlalchemy.engine import make_url

from asyncstore import Asset, Store, StoreBusyError, StoreError, TaskScope, VersionConflictError
from asyncstore.backends import watching
from asyncstore.backends.metastore.postgresql import database
from tests.postgres.databases import Databases
from tests.postgres.links import Link
from tests.postgres.messages import Message
from tests.postgres.pooler import Pooler, find_pgbouncer
from tests.postgres.processes import PATIENCE
from tests.postgres.proxy import Proxy
from tests.postgres.store_load import Load
from tests.postgres.store_support import ORDERS, TASK, audited, look, opened
from tests.postgres.support import connected

pytestmark = pytest.mark.anyio

MAPPED = TaskScope(TASK.dag_id, TASK.run_id, TASK.task_id, 7)

_TERMINATE = (
    "SELECT count(pg_terminate_backend(pid)) AS ended FROM pg_stat_activity"
    " WHERE datname = $1 AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
)


@pytest.fixture(scope="module")
def database_template(postgres: Databases) -> str:
    return audited(postgres)


MakePooler = Callable[..., str]


@pytest.fixture
def make_pooler(database_url: str) -> Generator[MakePooler]:
    """Start PgBouncer set up in other ways; gives the URL of `database_url` by this way."""
    if find_pgbouncer() is None:
        pytest.skip("the program pgbouncer is not installed")
    with ExitStack() as stack:

        def make(*, pool_size: int = 2, **settings: str | int) -> str:
            pooler = stack.enter_context(Pooler(database_url, pool_size=pool_size, settings=settings))
            return pooler.through(database_url)

        yield make


@asynccontextmanager
async def pooled(url: str, **options: Any) -> AsyncGenerator[Store]:
    """Open a store by the documented setting."""
    async with opened(url, **{"pooler": "transaction", "operation_timeout": 10.0, **options}) as store:
        yield store


def one_more(number: Any) -> Any:
    return number + 1


async def everything(store: Store, name: str) -> None:
    """Do everything that goes to the database, and look at what comes of it."""
    asset = Asset(name, uri=f"s3://bucket/{name}")
    for state in (cast("Any", store.task_state(TASK)), cast("Any", store.asset_state[asset])):
        key = f"{name} a"
        await state.aset(key, 1)
        entry = await state.aget_entry(key)
        await state.aset(key, 2, if_version=entry.version)
        with pytest.raises(VersionConflictError):
            await state.aset(key, 3, if_version=entry.version)
        await state.aset_many({f"{name} b": 2, f"{name} c": 3})
        assert await state.aget_many([f"{name} c", key]) == {f"{name} c": 3, key: 2}
        assert await state.aupdate(key, one_more) == 3
        assert [await state.aadvance(key, number) for number in (9, 5)] == [True, False]
        await state.adelete(f"{name} b")
        assert await state.akeys(f"{name} ") == [key, f"{name} c"]
        assert await state.aget(key) == 9
    claimed = await store.aclaim_watcher(asset, name, owner="a test")
    commit = await claimed.prepare("event", "once", {"offset": 1})
    assert [duplicate for _, duplicate in (await claimed.acommit(commit), await claimed.acommit(commit))] == [
        False,
        True,
    ]
    assert len(await cast("Any", store.backend).alist_events(claimed.lease.asset)) == 1
    await store.adeactivate(asset)
    await store.aactivate(asset)
    await store.task_state(MAPPED).aset(name, 1, retention=timedelta(days=1))
    await store.asset_state[asset].aclear()
    await store.adelete_asset(asset)
    await cast("Any", store.backend).acleanup(batch_size=10)


async def test_every_operation(pgbouncer_url: str) -> None:
    async with pooled(pgbouncer_url) as store:
        await everything(store, "alone")
        await store.task_state(TASK).aclear(all_map_indices=True)
        await store.task_state(TASK).aset("key", 1)
        assert await store.adelete_run(TASK.dag_id, TASK.run_id) == 1


async def test_many_callers_and_few_connections(postgres: Databases, pgbouncer_url: str, database_url: str) -> None:
    name = str(make_url(database_url).database)
    async with pooled(pgbouncer_url, pool_size=20) as store, pooled(pgbouncer_url) as other:
        await asyncio.gather(*(everything(store, f"n{number}") for number in range(4)))
        scopes = [TaskScope("dag", "run", f"task{number}") for number in range(64)]

        async def work(number: int) -> None:
            state = (store, other)[number % 2].task_state(scopes[number])
            for round_ in range(5):
                await state.aset("key", round_)
                assert await state.aget("key") == round_
                entry = await state.aget_entry("key")
                assert entry is not None
                await state.aset("checked", round_, if_version=0 if round_ == 0 else None)
                await (other, store)[number % 2].task_state(scopes[0]).aupdate("sum", one_more, default=0)
                assert await state.akeys("c") == ["checked"]
            assert await state.aget_many(["key", "checked"]) == {"key": 4, "checked": 4}

        await asyncio.gather(*(work(number) for number in range(64)))
        assert await store.task_state(scopes[0]).aget("sum") == 64 * 5
        assert len(await run_sync(postgres.connections, name)) <= 2


async def test_a_batch_of_any_kind(pgbouncer_url: str) -> None:
    async with pooled(pgbouncer_url) as store:
        state = store.task_state(TASK)
        await state.aset("there", 0)
        for _ in range(3):
            outcomes = await asyncio.gather(
                *(state.aset(f"key{number}", number) for number in range(64)),
                *(state.aset("same", number) for number in range(64)),
                *(state.aget("there") for _ in range(64)),
                *(state.aset("there", 1, if_version=999) for _ in range(8)),
                return_exceptions=True,
            )
            assert outcomes[128:192] == [0] * 64
            assert [type(each) for each in outcomes[192:]] == [VersionConflictError] * 8
            assert outcomes[:128] == [None] * 128
            assert await state.aget_many(["key63", "same", "there"]) == {"key63": 63, "same": 63, "there": 0}


async def test_a_locked_row_holds_up_its_own_caller_only(pgbouncer_url: str, database_url: str) -> None:
    async with pooled(pgbouncer_url, lock_timeout=0.3) as store, connected(database_url) as bare:
        state = store.task_state(TASK)
        await state.aset("locked", 0)
        await bare.execute("BEGIN")
        await bare.fetch("SELECT FROM asyncstore_task_state WHERE key = 'locked' FOR UPDATE")
        outcomes = await asyncio.gather(
            state.aset("locked", 1), *(state.aset(f"key{number}", 1) for number in range(20)), return_exceptions=True
        )
        assert [type(each) for each in outcomes] == [StoreBusyError, *[type(None)] * 20]
        await bare.execute("ROLLBACK")
        await state.aset("locked", 2)


# What may not be left on a connection that is the next client's.


async def test_nothing_stays_on_the_servers_connection(make_pooler: MakePooler) -> None:
    url = make_pooler(pool_size=1)
    for durability in ("full", "normal"):
        async with pooled(url, durability=durability) as store:
            await asyncio.gather(*(everything(store, f"n{number}") for number in range(3)))
            async with connected(url, statement_cache_size=0) as bare:  # it gets the store's connection
                found = {
                    "statements": await bare.fetch("SELECT name, statement FROM pg_prepared_statements"),
                    "channels": await bare.fetch("SELECT * FROM pg_listening_channels()"),
                    "locks": await bare.fetch(
                        "SELECT * FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
                    ),
                    "settings": await bare.fetch(
                        "SELECT name, setting FROM pg_settings WHERE setting <> reset_val AND name = ANY ($1)",
                        ["lock_timeout", "synchronous_commit", "plan_cache_mode", "enable_seqscan", "jit"],
                    ),
                }
                assert found == {name: [] for name in found}


async def test_no_statement_is_prepared_by_name_and_nobody_listens(
    monkeypatch: pytest.MonkeyPatch, pgbouncer_url: str
) -> None:
    named: list[str] = []
    words: list[str] = []
    forward = Link._from_client  # pyright: ignore[reportPrivateUsage]

    async def listen(self: Link, message: Message) -> None:
        body = message.data[5:]
        if message.kind == "P":
            name, text, _ = body.split(b"\0", 2)
            words.append(text.decode())
            if name:
                named.append(text.decode())
        elif message.kind == "Q":
            words.append(body.decode())
        await forward(self, message)

    monkeypatch.setattr(Link, "_from_client", listen)
    with Proxy.to(pgbouncer_url) as proxy:
        async with pooled(proxy.through(pgbouncer_url)) as store:
            values = cast("AsyncGenerator[Any, None]", store.task_state(TASK).awatch("watched"))
            async with aclosing(values):
                assert await anext(values) is None
                await asyncio.gather(*(everything(store, f"n{number}") for number in range(3)))
                await store.task_state(TASK).aset("watched", 1)
                assert await anext(values) == 1
    assert len(words) > 50
    assert not [text for text in words if "LISTEN" in text or "pg_advisory_lock" in text]
    assert sorted(set(named)) == []


# Watching, without LISTEN.


@pytest.mark.parametrize("asset", [True, False], ids=["asset", "task"])
async def test_a_watch_sees_what_others_commit(
    asset: bool, monkeypatch: pytest.MonkeyPatch, pgbouncer_url: str, database_url: str
) -> None:
    monkeypatch.setattr(database, "_LOOK", 0.02)
    monkeypatch.setattr(watching, "INTERVAL", 0.005)

    def state_of(store: Store) -> Any:
        return store.asset_state[ORDERS] if asset else store.task_state(TASK)

    async with (
        pooled(pgbouncer_url) as store,
        pooled(pgbouncer_url) as beside,
        opened(database_url) as direct,
        aclosing(state_of(store).awatch("key")) as values,
    ):
        with anyio.fail_after(PATIENCE):
            assert await anext(values) is None
            for number, writer in enumerate((store, beside, direct)):
                await state_of(writer).aset("key", number)
                assert await anext(values) == number


# Connections that end.


async def test_the_servers_connections_end_again_and_again(
    postgres: Databases, pgbouncer_url: str, database_url: str
) -> None:
    name = str(make_url(database_url).database)
    async with pooled(pgbouncer_url) as store:
        load = Load(store)
        await load.start()
        for _ in range(8):
            await load.progress()
            ended = await run_sync(lambda: postgres.fetch(_TERMINATE, name))
            assert ended[0]["ended"] >= 1
        await load.progress()
        await load.stop()
        assert load.refused == []
    load.judge(await look(database_url))


async def test_the_pooler_itself_is_restarted(pgbouncer: Pooler, pgbouncer_url: str, database_url: str) -> None:
    async with pooled(pgbouncer_url) as store:
        load = Load(store)
        await load.start()
        for _ in range(3):
            await load.progress()
            await run_sync(pgbouncer.stop)
            await run_sync(pgbouncer.start)
        await load.progress()
        await load.stop()
        assert load.refused == []
    load.judge(await look(database_url))


# Without the setting.


async def test_without_the_setting_the_way_out_is_named(pgbouncer_url: str) -> None:
    with pytest.raises(StoreError, match=r"name its mode in `\[database\] pooler`.*unsupported startup parameter"):
        async with opened(pgbouncer_url, operation_timeout=0.3):
            pass


async def test_in_session_mode(make_pooler: MakePooler) -> None:
    url = make_pooler(pool_size=20, pool_mode="session")
    async with opened(url, pooler="session") as store:
        await everything(store, "alone")
