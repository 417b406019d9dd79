"""What is PostgreSQL's own in `session=`: the rows that a session holds, and who hears of its commit.

What holds on both databases is in tests/metastore/test_sessions.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, cast

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from asyncstore import (
    Asset,
    Commit,
    Delete,
    Put,
    SchemaError,
    Store,
    StoreBusyError,
    StoreError,
    StoreUnavailableError,
    TaskScope,
    VersionConflictError,
)
from asyncstore.backends import watching
from asyncstore.backends.metastore.postgresql import database
from tests.postgres.client import Connection
from tests.postgres.databases import Databases
from tests.postgres.processes import PATIENCE
from tests.postgres.server import HOST, free_port
from tests.postgres.store_support import ORDERS, TASK, eventually, opened
from tests.postgres.support import connected

pytestmark = pytest.mark.anyio

NEW = TaskScope("dag", "run", "new")
_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
_LISTENING = (
    "SELECT count(*) / 64 FROM pg_locks WHERE locktype = 'advisory' AND classid = 1634956147 AND objid >= 1000"
    " AND mode = 'ShareLock' AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


@pytest.fixture
async def store(database_url: str) -> AsyncGenerator[Store]:
    async with opened(database_url, lock_timeout=20.0, operation_timeout=30.0) as store:
        await store.asset_state[ORDERS].aset_many({"held": 0, "free": 0})
        await store.task_state(TASK).aset_many({"held": 0, "free": 0})
        yield store


@pytest.fixture
async def engine(store: Store, database_url: str) -> AsyncGenerator[AsyncEngine]:
    del store  # is closed last
    engine = create_async_engine(database_url)
    yield engine
    await engine.dispose()


@pytest.fixture
async def session(engine: AsyncEngine) -> AsyncGenerator[AsyncSession]:
    async with AsyncSession(engine) as session:
        yield session


@pytest.fixture
async def bare(database_url: str) -> AsyncGenerator[Connection]:
    async with connected(database_url) as connection:
        yield connection


def states(store: Store) -> list[Any]:
    return [store.task_state(TASK), store.asset_state[ORDERS]]


# Rows that a session holds.


def one_more(number: Any) -> Any:
    return number + 1


Hold = Callable[[Any, AsyncSession], Awaitable[Any]]
HOLDS: dict[str, Hold] = {
    "aset": lambda state, session: state.aset("held", 1, session=session),
    "aset_many": lambda state, session: state.aset_many({"held": 1, "also": 1}, session=session),
    "adelete": lambda state, session: state.adelete("held", session=session),
    "aupdate": lambda state, session: state.aupdate("held", one_more, session=session),
}


async def neighbours(store: Store, number: int) -> None:
    """Do what others do meanwhile, in the same batches."""
    for state in (*states(store), store.task_state(TaskScope("dag", "run", f"neighbour{number}"))):
        await state.aset(f"key{number}", number)
        await state.aset_many({f"a{number}": 1, f"b{number}": 2})
        assert await state.aget_many([f"key{number}", f"a{number}"]) == {f"key{number}": number, f"a{number}": 1}
        await state.adelete(f"a{number}")
        entry = await state.aget_entry(f"key{number}")
        assert entry is not None
        await state.aset(f"key{number}", -number, if_version=entry.version)
        assert await state.aget(f"key{number}") == -number


@pytest.mark.parametrize("name", HOLDS)
@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_a_row_of_a_session_holds_up_its_own_caller_only(
    name: str, end: str, store: Store, session: AsyncSession, bare: Connection
) -> None:
    for state in states(store):
        await HOLDS[name](state, session)
    blocked = [asyncio.ensure_future(state.aset("held", 9)) for state in states(store)]
    async with asyncio.timeout(PATIENCE / 2):
        await asyncio.gather(*(neighbours(store, number) for number in range(1, 21)))
        for state in states(store):
            assert await state.aget("free") == 0
            assert (await state.aget_many(["held", "free"])) == {"held": 0, "free": 0}, "readers do not wait"
        await eventually(lambda: _at_least(bare, _WAITING, 1), "the others to wait")
    assert not any(each.done() for each in blocked)
    await getattr(session, end)()
    async with asyncio.timeout(PATIENCE / 2):
        await asyncio.gather(*blocked)
    assert [await state.aget("held") for state in states(store)] == [9, 9], "who waited wrote last"


async def _at_least(bare: Connection, query: str, count: int) -> bool:
    return bool(await bare.fetchval(query) >= count)


async def test_a_new_row_of_a_session(store: Store, session: AsyncSession) -> None:
    """Nobody else can see the key and its task instance yet, and whoever writes the same waits all the same."""
    await store.task_state(NEW).aset("new", 1, session=session)
    same = asyncio.ensure_future(store.task_state(NEW).aset("new", 2))
    beside = asyncio.ensure_future(store.task_state(NEW).aset("other", 3))
    async with asyncio.timeout(PATIENCE / 2):
        await asyncio.gather(*(neighbours(store, number) for number in range(1, 11)))
    assert not same.done()
    await session.rollback()
    async with asyncio.timeout(PATIENCE / 2):
        await asyncio.gather(same, beside)
    assert await store.task_state(NEW).aget_many(["new", "other"]) == {"new": 2, "other": 3}


async def test_a_scope_that_a_session_cleared(store: Store, session: AsyncSession) -> None:
    await store.task_state(TASK).aclear(session=session)
    held = asyncio.ensure_future(store.task_state(TASK).aset("held", 9))
    async with asyncio.timeout(PATIENCE / 2):
        await asyncio.gather(
            *(store.asset_state[ORDERS].aset(f"key{number}", 1) for number in range(20)),
            *(store.task_state(TaskScope("dag", "run", f"t{number}")).aset("key", 1) for number in range(20)),
        )
    assert not held.done()
    await session.commit()
    async with asyncio.timeout(PATIENCE / 2):
        await held
    assert await store.task_state(TASK).akeys() == ["held"]


async def test_who_waits_too_long_is_told_and_the_others_are_not_held_up(
    database_url: str, store: Store, session: AsyncSession
) -> None:
    await store.task_state(TASK).aset("held", 1, session=session)
    async with opened(database_url, lock_timeout=0.2) as impatient:
        state = impatient.task_state(TASK)
        outcomes = await asyncio.gather(
            state.aset("held", 2), *(state.aset(f"key{number}", 1) for number in range(30)), return_exceptions=True
        )
        assert [type(each) for each in outcomes] == [StoreBusyError, *[type(None)] * 30]
        assert "nothing was written" in str(outcomes[0])
    await session.commit()
    assert await store.task_state(TASK).aget("held") == 1


async def test_events_of_a_session_hold_up_no_plain_write(store: Store, session: AsyncSession) -> None:
    """Events become visible in the order of their ids, so other events wait; what is no event does not."""
    claimed = [await store.aclaim_watcher(ORDERS, name, owner="a test") for name in ("one", "two")]
    first = await claimed[0].prepare("first", None, {"offset": 1})
    second = await claimed[1].prepare("second", None, None)
    await cast("Any", store.backend).acommit(first, session=session)
    waiting = asyncio.ensure_future(claimed[1].acommit(second))
    async with asyncio.timeout(PATIENCE / 2):
        await asyncio.gather(*(neighbours(store, number) for number in range(1, 11)))
    assert not waiting.done()
    await session.commit()
    async with asyncio.timeout(PATIENCE / 2):
        await waiting
    found = await cast("Any", store.backend).alist_events()
    assert [event.payload for event in found] == ["first", "second"]


async def test_a_session_is_told_of_a_version_that_changed_while_it_waited(
    store: Store, engine: AsyncEngine, bare: Connection
) -> None:
    state = store.task_state(TASK)
    entry = await state.aget_entry("held")
    assert entry is not None
    async with AsyncSession(engine) as one, AsyncSession(engine) as two:
        await state.aset("held", 1, session=one)
        waiting = asyncio.ensure_future(state.aset("held", 2, if_version=entry.version, session=two))
        await eventually(lambda: _at_least(bare, _WAITING, 1), "the second to wait")
        await one.commit()
        with pytest.raises(VersionConflictError):
            await waiting
        await state.aset("other", 3, session=two)  # the transaction goes on
        await two.commit()
    assert await state.aget_many(["held", "other"]) == {"held": 1, "other": 3}


async def test_two_sessions_that_wait_for_each_other(store: Store, engine: AsyncEngine, bare: Connection) -> None:
    state = store.task_state(TASK)
    async with AsyncSession(engine) as one, AsyncSession(engine) as two:
        for session in (one, two):
            await session.execute(text("SET deadlock_timeout = '20ms'"))
        await state.aset("held", 1, session=one)
        await state.aset("free", 2, session=two)
        waiting = asyncio.ensure_future(state.aset("free", 1, session=one))
        await eventually(lambda: _at_least(bare, _WAITING, 1), "the first to wait")
        outcomes = await asyncio.gather(waiting, state.aset("held", 2, session=two), return_exceptions=True)
        assert sorted(type(each).__name__ for each in outcomes) == ["NoneType", "StoreBusyError"]
        await (one if outcomes[0] is None else two).commit()
        await (two if outcomes[0] is None else one).rollback()
    assert set((await state.aget_many(["held", "free"])).values()) in ({1}, {2})


async def test_an_asset_that_is_registered_meanwhile(store: Store, session: AsyncSession) -> None:
    """It is registered for itself: nobody else would see it otherwise, and it stays."""
    await store.task_state(TASK).aset("held", 1, session=session)
    await store.asset_state[Asset("new")].aset("key", 1, session=session)
    assert await store.asset_state[Asset("new")].aget("key") is None
    await session.rollback()
    assert await store.asset_state[Asset("new")].aget("key") is None


# The caller's transaction as such.


async def test_a_savepoint_of_the_callers(store: Store, session: AsyncSession) -> None:
    state = store.task_state(TASK)
    await state.aset("before", 1, session=session)
    savepoint = await session.begin_nested()
    await state.aset_many({"before": 2, "inside": 2}, session=session)
    await savepoint.rollback()
    assert await state.aget_many(["before", "inside"], session=session) == {"before": 1}
    await session.commit()
    assert await state.aget_many(["before", "inside"]) == {"before": 1}


async def test_a_snapshot_that_is_too_old(store: Store, engine: AsyncEngine) -> None:
    state = store.task_state(TASK)
    async with AsyncSession(engine.execution_options(isolation_level="REPEATABLE READ")) as session:
        assert await state.aget("held", session=session) == 0
        await state.aset("held", 1)
        assert await state.aget("held", session=session) == 0, "as of its beginning"
        with pytest.raises(StoreBusyError, match="another transaction go first"):
            await state.aset("held", 2, session=session)
        await session.rollback()
        await state.aset("held", 3, session=session)
        await session.commit()
    assert await state.aget("held") == 3


async def test_a_refused_commit_is_refused_whole(store: Store, session: AsyncSession) -> None:
    changes = (Put(TASK, "a", "1"), Delete(TASK, "free"), Put(TASK, "held", "2", if_version=1))
    with pytest.raises(VersionConflictError):
        await cast("Any", store.backend).acommit(Commit(changes), session=session)
    await session.commit()
    assert await store.task_state(TASK).akeys() == ["free", "held"]


async def test_a_transaction_that_has_failed(store: Store, session: AsyncSession) -> None:
    state = store.task_state(TASK)
    with pytest.raises(DBAPIError):
        await session.execute(text("SELECT nothing"))
    with pytest.raises(StoreError, match="in the session"):
        await state.aset("held", 1, session=session)
    await session.rollback()
    await state.aset("held", 2, session=session)
    await session.commit()
    assert await state.aget("held") == 2


async def test_the_limits_of_the_session_hold_for_the_store_too(store: Store, database_url: str) -> None:
    state = store.task_state(TASK)
    engine = create_async_engine(database_url, connect_args={"server_settings": {"lock_timeout": "50"}})
    async with AsyncSession(engine) as one, AsyncSession(engine) as two:
        await state.aset("held", 1, session=one)
        with pytest.raises(StoreBusyError, match="in the session"):
            await state.aset("held", 2, session=two)
        await two.execute(text("ROLLBACK"))
        await two.rollback()
        await one.commit()
    await engine.dispose()
    assert await state.aget("held") == 1


async def test_a_session_whose_connection_ends(store: Store, session: AsyncSession, bare: Connection) -> None:
    state = store.task_state(TASK)
    await state.aset("held", 1, session=session)
    pid = (await session.execute(text("SELECT pg_backend_pid()"))).scalar_one()
    await bare.fetchval("SELECT pg_terminate_backend($1, 10000)", pid)
    with pytest.raises(StoreUnavailableError):
        await state.aset("free", 1, session=session)
    await session.rollback()
    assert await state.aget_many(["held", "free"]) == {"held": 0, "free": 0}


async def test_a_session_whose_server_is_away(store: Store) -> None:
    engine = create_async_engine(f"postgresql+asyncpg://me:tell-nobody@{HOST}:{free_port()}/app")
    async with AsyncSession(engine) as session:
        with pytest.raises(StoreUnavailableError) as caught:
            await store.task_state(TASK).aset("key", 1, session=session)
        assert "tell-nobody" not in str(caught.value)
    await engine.dispose()


async def test_a_session_on_a_database_without_our_tables(store: Store, postgres: Databases) -> None:
    name = postgres.create_database()
    engine = create_async_engine(postgres.url(name))
    async with AsyncSession(engine) as session:
        for call in (
            lambda: store.task_state(TASK).aget("key", session=session),
            lambda: store.task_state(TASK).aset("key", 1, session=session),
        ):
            with pytest.raises(SchemaError, match="in the session"):
                await call()
            await session.rollback()
    await engine.dispose()
    postgres.drop_database(name)


async def test_a_write_that_is_cancelled_is_the_sessions_to_undo(
    store: Store, engine: AsyncEngine, session: AsyncSession, bare: Connection
) -> None:
    state = store.task_state(TASK)
    await state.aset("held", 1, session=session)
    async with AsyncSession(engine) as other:
        await state.aset("free", 2, session=other)
        waiting = asyncio.ensure_future(state.aset("held", 2, session=other))
        await eventually(lambda: _at_least(bare, _WAITING, 1), "it to wait")
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
    await session.commit()
    assert await state.aget_many(["held", "free"]) == {"held": 1, "free": 0}


# Who watches.


async def listening(bare: Connection) -> None:
    await eventually(lambda: _at_least(bare, _LISTENING, 1), "a listener")


def watch(state: Any) -> aclosing[AsyncGenerator[Any, None]]:
    return aclosing(cast("AsyncGenerator[Any, None]", state.awatch("held")))


@pytest.fixture
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look so seldom, where changes are told of, that it cannot matter."""
    monkeypatch.setattr(database, "_LOOK_BESIDE", 1e9)
    monkeypatch.setattr(watching, "INTERVAL", 0.01)


async def test_the_commit_of_a_session_is_told_of(
    seldom: None, store: Store, session: AsyncSession, bare: Connection
) -> None:
    for state in states(store):
        async with watch(state) as values, asyncio.timeout(PATIENCE):
            assert await anext(values) == 0
            await listening(bare)
            for number in range(1, 4):
                await state.aset("held", "undone", session=session)
                await session.rollback()
                await state.aset("held", number, session=session)
                following = asyncio.ensure_future(anext(values))
                await neighbours(store, number)
                assert not following.done(), "nobody knows before the commit"
                await session.commit()
                assert await following == number
            await state.adelete("held", session=session)
            await session.commit()
            assert await anext(values) is None


async def test_a_session_that_wrote_before_the_watch_began(
    monkeypatch: pytest.MonkeyPatch, store: Store, session: AsyncSession, bare: Connection, database_url: str
) -> None:
    """It found nobody to tell; a listener waits for its end, and others' changes are looked for until then."""
    monkeypatch.setattr(database, "_LOOK", 0.02)
    monkeypatch.setattr(watching, "INTERVAL", 0.01)
    task, orders = states(store)
    await task.aset("held", 1, session=session)
    async with watch(task) as one, watch(orders) as two, asyncio.timeout(PATIENCE):
        assert [await anext(one), await anext(two)] == [0, 0]
        async with opened(database_url) as other:
            await other.asset_state[ORDERS].aset("held", 2)
        assert await anext(two) == 2
        assert not await _at_least(bare, _LISTENING, 1)
        monkeypatch.setattr(database, "_LOOK", 1e9)
        monkeypatch.setattr(database, "_LOOK_BESIDE", 1e9)
        await session.commit()
        assert await anext(one) == 1, "the listener has looked once it listens"
        await listening(bare)
        await orders.aset("held", 3, session=session)
        await session.commit()
        assert await anext(two) == 3
