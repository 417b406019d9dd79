"""`session=`: an operation is part of the caller's own transaction, on both databases."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, closing
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine

from asyncstore import (
    Asset,
    Commit,
    DatabaseSettings,
    Delete,
    LeaseLostError,
    MemoryBackend,
    Put,
    Settings,
    Store,
    StoreBusyError,
    StoreError,
    TaskScope,
    VersionConflictError,
    connect,
)

from .support import PATIENCE, TASK, Child

pytestmark = pytest.mark.anyio

ORDERS = Asset("orders", uri="s3://bucket/orders")
MAPPED = TaskScope(TASK.dag_id, TASK.run_id, TASK.task_id, 3)
SETTINGS = Settings(database=DatabaseSettings(lock_timeout=0.2, operation_timeout=5.0))

Joined = AsyncSession | AsyncConnection

# What would be left behind by a change that was not made whole.
_LEFT = """
SELECT (SELECT count(*) FROM asyncstore_task_state s WHERE NOT EXISTS (
    SELECT 1 FROM asyncstore_task_instance t WHERE t.id = s.task_instance_id)),
  (SELECT count(*) FROM asyncstore_task_instance t WHERE NOT EXISTS (
    SELECT 1 FROM asyncstore_task_state s WHERE s.task_instance_id = t.id))
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{path}"
    return str(request.getfixturevalue("database_url"))


@pytest.fixture
async def store(url: str) -> AsyncGenerator[Store]:
    async with connect(url, settings=SETTINGS) as store:
        await store.asset_state[ORDERS].aget("none")  # registers it
        yield store


@pytest.fixture
async def engine(store: Store, url: str) -> AsyncGenerator[AsyncEngine]:
    del store  # makes the tables, and is closed last
    engine = create_async_engine(url)
    yield engine
    await engine.dispose()


@pytest.fixture(params=[AsyncSession, AsyncConnection])
async def session(request: pytest.FixtureRequest, engine: AsyncEngine) -> AsyncIterator[Joined]:
    async with AsyncSession(engine) if request.param is AsyncSession else engine.connect() as session:
        yield session


def states(store: Store) -> list[Any]:
    return [store.task_state(TASK), store.asset_state[ORDERS]]


async def holds(state: Any, session: Joined | None = None) -> dict[str, Any]:
    """Read everything in every way there is, which must say the same."""
    keys = await state.akeys(session=session)
    found: dict[str, Any] = await state.aget_many(keys, session=session)
    assert [await state.aget(key, session=session) for key in keys] == list(found.values())
    entries = [await state.aget_entry(key, session=session) for key in keys]
    assert [entry.value for entry in entries] == list(found.values())
    return found


async def version_of(state: Any, key: str, session: Joined) -> int:
    entry = await state.aget_entry(key, session=session)
    return int(entry.version)


async def set_if_version(state: Any, session: Joined) -> None:
    await state.aset("a", 9, if_version=await version_of(state, "a", session), session=session)


def eight_more(number: Any) -> Any:
    return number + 8


# What each operation makes of {"a": 1, "b": 2}.
Change = Callable[[Any, Joined], Awaitable[Any]]
CHANGES: dict[str, tuple[Change, dict[str, Any]]] = {
    "aset": (lambda state, session: state.aset("a", 9, session=session), {"a": 9, "b": 2}),
    "aset of a new key": (lambda state, session: state.aset("c", 3, session=session), {"a": 1, "b": 2, "c": 3}),
    "aset if_version": (set_if_version, {"a": 9, "b": 2}),
    "aset if absent": (
        lambda state, session: state.aset("c", 3, if_version=0, session=session),
        {"a": 1, "b": 2, "c": 3},
    ),
    "aset_many": (lambda state, session: state.aset_many({"c": 3, "a": 9}, session=session), {"a": 9, "b": 2, "c": 3}),
    "aupdate": (lambda state, session: state.aupdate("a", eight_more, session=session), {"a": 9, "b": 2}),
    "aadvance": (lambda state, session: state.aadvance("a", 9, session=session), {"a": 9, "b": 2}),
    "adelete": (lambda state, session: state.adelete("a", session=session), {"b": 2}),
    "aclear": (lambda state, session: state.aclear(session=session), {}),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_a_change(name: str, store: Store, session: Joined) -> None:
    change, after = CHANGES[name]
    for state in states(store):
        before = {"a": 1, "b": 2}
        await state.aset_many(before)
        for end in ("rollback", "commit"):
            await change(state, session)
            assert await holds(state, session) == after, "seen inside"
            assert await holds(state) == before, "and not outside"
            await getattr(session, end)()
            assert await holds(state) == (before if end == "rollback" else after)
        assert await holds(state, session) == after
        assert tuple((await session.execute(text(_LEFT))).one()) == (0, 0)
        await session.rollback()


async def test_the_last_key_goes_and_the_instance_with_it(store: Store, session: Joined) -> None:
    state = store.task_state(TASK)
    await state.aset("a", 1)
    await state.adelete("a", session=session)
    await state.aset("a", 2, session=session)
    await state.adelete("a", session=session)
    await session.commit()
    assert tuple((await session.execute(text(_LEFT))).one()) == (0, 0)
    assert await holds(state) == {}


async def test_clear_of_all_map_indices(store: Store, session: Joined) -> None:
    mapped = [store.task_state(TASK), store.task_state(MAPPED)]
    for state in mapped:
        await state.aset("a", 1)
    await mapped[0].aclear(all_map_indices=True, session=session)
    assert [await holds(state, session) for state in mapped] == [{}, {}]
    assert [await holds(state) for state in mapped] == [{"a": 1}, {"a": 1}]
    await session.commit()
    assert [await holds(state) for state in mapped] == [{}, {}]
    assert tuple((await session.execute(text(_LEFT))).one()) == (0, 0)


async def test_with_the_rows_of_the_caller_or_not_at_all(store: Store, session: Joined) -> None:
    state = store.asset_state[ORDERS]
    await session.execute(text("CREATE TABLE theirs (page INTEGER)"))
    await session.commit()
    for end, pages in (("rollback", 0), ("commit", 1)):
        await session.execute(text("INSERT INTO theirs VALUES (1)"))
        await state.aset("page", 1, session=session)
        await session.execute(text("INSERT INTO theirs VALUES (2)"))
        await getattr(session, end)()
        assert (await session.execute(text("SELECT count(*) FROM theirs"))).scalar_one() == 2 * pages
        await session.rollback()
        assert len(await state.akeys()) == pages


async def test_the_operations_of_the_backend(store: Store, session: Joined) -> None:
    backend: Any = store.backend
    for scope in (TASK, await backend.aregister_asset(ORDERS)):
        await backend.aset(scope, "a", "1", session=session)
        result = await backend.acommit(Commit((Put(scope, "b", "2"), Put(scope, "c", "3"))), session=session)
        await backend.adelete(scope, "c", session=session)
        assert await backend.aget(scope, "a", session=session) == "1"
        assert await backend.aget_many(scope, ["c", "b", "a"], session=session) == {"b": "2", "a": "1"}
        assert await backend.alist_keys(scope, session=session) == ["a", "b"]
        assert await backend.alist_keys(scope, after="a", limit=5, session=session) == ["b"]
        assert (await backend.aget_entry(scope, "b", session=session)).version == result.versions[0]
        assert await backend.aget_many(scope, ["a", "b"]) == {}
        await session.commit()
        assert await backend.aget_many(scope, ["a", "b"]) == {"a": "1", "b": "2"}
        assert (await backend.aget_entry(scope, "b")).version == result.versions[0], "as it was told"
        await backend.aclear(scope, session=session)
        assert await backend.alist_keys(scope, session=session) == []
        await session.rollback()
        assert await backend.alist_keys(scope) == ["a", "b"]


async def test_versions_grow_from_session_to_session(store: Store, session: Joined) -> None:
    state = store.task_state(TASK)
    seen = [0]
    for number in range(6):
        await state.aset("key", number, session=session if number % 2 else None)
        if number % 2:
            seen.append(await version_of(state, "key", session))
            await session.commit()
        entry = await state.aget_entry("key")
        assert entry is not None
        assert entry.version >= seen[-1]
        seen.append(entry.version)
    assert seen == sorted(seen)
    assert len(set(seen)) == 7


# What is refused.


async def test_a_conflict_writes_nothing_and_the_session_goes_on(store: Store, session: Joined) -> None:
    state = store.task_state(TASK)
    await state.aset("a", 1)
    await state.aset("before", 1, session=session)
    with pytest.raises(VersionConflictError):
        await state.aset("a", 2, if_version=0, session=session)
    await state.aset("after", 1, session=session)
    await session.commit()
    assert await holds(state) == {"a": 1, "after": 1, "before": 1}


async def test_a_commit_that_is_refused_is_refused_whole(store: Store, session: Joined) -> None:
    """The caller may well catch the error, and commit what else is in the transaction."""
    state = store.task_state(TASK)
    await state.aset("gone", 1)
    changes = (Put(TASK, "a", "1"), Delete(TASK, "gone"), Put(TASK, "b", "2", if_version=99))
    await state.aset("before", 1, session=session)
    with pytest.raises(VersionConflictError):
        await cast("Any", store.backend).acommit(Commit(changes), session=session)
    assert await holds(state, session) == {"before": 1, "gone": 1}
    await session.commit()
    assert await holds(state) == {"before": 1, "gone": 1}


async def test_two_sessions_write_by_the_same_version(store: Store, engine: AsyncEngine) -> None:
    state = store.task_state(TASK)
    await state.aset("key", 1)
    async with AsyncSession(engine) as one, AsyncSession(engine) as two:
        version = await version_of(state, "key", one)
        assert await version_of(state, "key", two) == version
        await state.aset("key", 2, if_version=version, session=one)
        await one.commit()
        with pytest.raises(VersionConflictError):
            await state.aset("key", 3, if_version=version, session=two)
    assert await state.aget("key") == 2


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_nobody_writes_between_the_check_of_a_version_and_the_write(
    store: Store, engine: AsyncEngine, path: Path
) -> None:
    """SQLAlchemy's connections to SQLite begin a transaction at the first write, and so behind a check that reads."""
    state = store.task_state(TASK)
    await state.aset("key", 1)
    entry = await state.aget_entry("key")
    assert entry is not None
    wrote: list[bool] = []

    def intrude(*arguments: Any) -> None:
        if wrote or arguments[2].lstrip().startswith(("SELECT", "BEGIN")):
            return
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as raw:
            try:
                raw.execute("UPDATE asyncstore_task_state SET value = '2', version = version + 1000000")
                wrote.append(True)
            except sqlite3.OperationalError:
                wrote.append(False)  # locked out, as it should be

    event.listen(engine.sync_engine, "before_cursor_execute", intrude)
    async with AsyncSession(engine) as session:
        try:
            await state.aset("key", 3, if_version=entry.version, session=session)
            await session.commit()
            found = 3
        except VersionConflictError:
            found = 2
    assert wrote
    assert found == (2 if wrote[0] else 3), "what somebody else wrote was overwritten unseen"
    assert await state.aget("key") == found


async def test_what_is_no_session(store: Store, engine: AsyncEngine) -> None:
    for wrong in (object(), engine, engine.sync_engine):
        with pytest.raises(TypeError, match="AsyncSession or AsyncConnection"):
            await store.task_state(TASK).aset("key", 1, session=wrong)
    async with engine.connect() as connection:
        pass
    with pytest.raises(StoreError, match="session cannot be used"):
        await store.task_state(TASK).aset("key", 1, session=connection)
    assert await store.task_state(TASK).akeys() == []


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_a_session_on_another_kind_of_database(store: Store) -> None:
    other = create_async_engine("sqlite+aiosqlite://")
    async with AsyncSession(other) as session:
        with pytest.raises(TypeError, match="the session is on sqlite, the store on the PostgreSQL database"):
            await store.task_state(TASK).aset("key", 1, session=session)
    await other.dispose()


async def test_a_backend_without_sql_takes_no_notice() -> None:
    async with connect(backend=MemoryBackend()) as store:
        await store.task_state(TASK).aset("key", 1, session=object())
        assert await store.task_state(TASK).aget("key", session=object()) == 1


# A child, since a connection that two event loops use at once may take the process with it.
_SYNC = """
import asyncio, warnings
from anyio.to_thread import run_sync
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from asyncstore import TaskScope, connect

TASK = TaskScope("dag", "run", "task")

def name_of(call):
    try:
        call()
    except Exception as error:
        return type(error).__name__
    return "no error"

async def main(url):
    engine = create_async_engine(url)
    async with connect(url) as store, AsyncSession(engine) as session:
        state, backend = store.task_state(TASK), store.backend
        await state.aset("key", 1, session=session)
        calls = {
            "get": lambda: state.get("key", session=session),
            "get_entry": lambda: state.get_entry("key", session=session),
            "get_many": lambda: state.get_many(["key"], session=session),
            "keys": lambda: state.keys(session=session),
            "set": lambda: state.set("key", 2, session=session),
            "set_many": lambda: state.set_many({"key": 2}, session=session),
            "update": lambda: state.update("key", lambda n: 2, session=session),
            "advance": lambda: state.advance("key", 2, session=session),
            "delete": lambda: state.delete("key", session=session),
            "clear": lambda: state.clear(session=session),
            "backend.get": lambda: backend.get(TASK, "key", session=session),
            "backend.set": lambda: backend.set(TASK, "key", "2", session=session),
            "backend.delete": lambda: backend.delete(TASK, "key", session=session),
            "backend.clear": lambda: backend.clear(TASK, session=session),
        }
        for name, call in calls.items():
            say([name, "in a thread", await run_sync(name_of, call)])
            say([name, "on the loop", name_of(call)])
        say(["then", "inside", await state.aget("key", session=session)])
        await session.commit()
        say(["then", "outside", await state.aget("key")])
    await engine.dispose()

warnings.simplefilter("ignore")
asyncio.run(main(sys.argv[1]))
"""


async def test_a_sync_call_cannot_take_part(store: Store, url: str) -> None:
    del store  # has made the tables
    with Child(_SYNC, url) as child:
        code, out, err = child.end()
    said = [json.loads(line) for line in out.splitlines()]
    wrong = [each for each in said if each[0] != "then" and each[2] != StoreBusyError.__name__]
    assert (wrong, code) == ([], 0), err
    assert said[-2:] == [["then", "inside", 1], ["then", "outside", 1]], "the session is as good as before"


# Events.


async def test_events_and_their_checkpoint(store: Store, session: Joined) -> None:
    backend: Any = store.backend
    claimed = await store.aclaim_watcher(ORDERS, "watcher", owner="a test")
    state = store.asset_state[ORDERS]
    commit = await claimed.prepare({"number": 1}, "first", {"offset": 1})
    for end in ("rollback", "commit"):
        result = await backend.acommit(commit, session=session)
        assert [each.duplicate for each in result.events] == [False]
        again = await backend.acommit(commit, session=session)
        assert [(each.id, each.duplicate) for each in again.events] == [(result.events[0].id, True)]
        assert await state.aget("offset", session=session) == 1
        assert (await state.aget("offset"), await backend.alist_events()) == (None, [])
        await getattr(session, end)()
    assert await state.aget("offset") == 1
    assert [(each.id, each.payload, each.key) for each in await backend.alist_events()] == [
        (result.events[0].id, {"number": 1}, "first")
    ]
    later, duplicate = await claimed.acommit(await claimed.prepare("second", None, None))
    assert not duplicate
    assert later.id > result.events[0].id


async def test_a_lease_that_is_lost(store: Store, session: Joined) -> None:
    backend: Any = store.backend
    claimed = await store.aclaim_watcher(ORDERS, "watcher", owner="a test")
    commit = await claimed.prepare("event", None, {"offset": 1})
    await store.aclaim_watcher(ORDERS, "watcher", owner="another")
    await store.asset_state[ORDERS].aset("mine", 1, session=session)
    with pytest.raises(LeaseLostError):
        await backend.acommit(commit, session=session)
    await session.commit()
    assert await holds(store.asset_state[ORDERS]) == {"mine": 1}
    assert await backend.alist_events() == []


# Others.


async def test_watchers_are_woken_by_the_commit(store: Store, session: Joined, url: str) -> None:
    async with AsyncExitStack() as stack:
        watches: list[AsyncGenerator[Any, None]] = []
        for other in (store, await stack.enter_async_context(connect(url, settings=SETTINGS))):
            for state in states(other):
                values = cast("AsyncGenerator[Any, None]", state.awatch("key"))
                watches.append(await stack.enter_async_context(aclosing(values)))
        with anyio.fail_after(PATIENCE):
            assert [await anext(values) for values in watches] == [None] * 4
            for number in range(3):
                for state in states(store):
                    await state.aset("key", "undone", session=session)
                await session.rollback()
                for state in states(store):
                    await state.aset("key", number, session=session)
                await session.commit()
                assert [await anext(values) for values in watches] == [number] * 4


async def test_an_own_key_in_the_transaction_of_ones_own(store: Store, session: Joined) -> None:
    """Who forgets `session=` waits for himself, and is told."""
    state = store.task_state(TASK)
    await state.aset("key", 1)
    await state.aset("key", 2, session=session)
    assert await state.aget("key") == 1, "readers do not wait"
    with pytest.raises(StoreBusyError):
        await state.aset("key", 3)
    await state.aset("key", 4, session=session)
    await session.commit()
    assert await state.aget("key") == 4
    await state.aset("key", 5)


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_session_holds_the_file(store: Store, session: Joined) -> None:
    state = store.task_state(TASK)
    await state.aset("key", 1, session=session)
    for write in (
        lambda: state.aset("other", 1),
        lambda: store.asset_state[ORDERS].aset_many({"other": 1}),
        lambda: store.aclaim_watcher(ORDERS, "watcher", owner="a test"),
        # An asset is registered outside of the session, so before it writes.
        lambda: store.asset_state[Asset("new")].aset("key", 1, session=session),
    ):
        with pytest.raises(StoreBusyError):
            await write()
    assert await holds(state) == {}
    await session.commit()
    await state.aset("other", 1)
    assert await holds(state) == {"key": 1, "other": 1}


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_session_that_finds_the_file_locked(store: Store, url: str) -> None:
    engine = create_async_engine(url, connect_args={"timeout": 0.05})
    state = store.task_state(TASK)
    async with AsyncSession(engine) as one, AsyncSession(engine) as two:
        await state.aset("key", 1, session=one)
        with pytest.raises(StoreBusyError, match="locked"):
            await state.aset("other", 1, session=two)
        await two.rollback()
        await one.commit()
        await state.aset("other", 1, session=two)
        await two.commit()
    await engine.dispose()
    assert await holds(state) == {"key": 1, "other": 1}
