"""Sync code and coroutines on one store: who waits for whom, who is warned, and that nobody waits for ever."""

from __future__ import annotations

import asyncio
import gc
import signal
import sqlite3
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from asyncstore import (
    Asset,
    BaseStoreBackend,
    BlockingCallWarning,
    DatabaseSettings,
    MemoryBackend,
    MetastoreBackend,
    Scope,
    Settings,
    Store,
    StoreBusyError,
    StoreError,
    TaskScope,
    blocking,
    connect,
)
from asyncstore.blocking import drive, in_thread, inline, outside, run_on_portal

TASK = TaskScope("dag", "run", "task")
ORDERS = Asset("orders")
PATIENCE = 30.0


class CoroutinesOnly(BaseStoreBackend):
    """What a user writes: the four coroutines, and they do suspend."""

    def __init__(self) -> None:
        self.kept: dict[tuple[Scope, str], str] = {}

    async def aget(self, scope: Scope, key: str, *, session: Any = None) -> str | None:
        await asyncio.sleep(0)
        return self.kept.get((scope, key))

    async def aset(
        self, scope: Scope, key: str, value: str, *, expires_at: datetime | None = None, session: Any = None
    ) -> None:
        await asyncio.sleep(0)
        self.kept[scope, key] = value

    async def adelete(self, scope: Scope, key: str, *, session: Any = None) -> None:
        await asyncio.sleep(0)
        self.kept.pop((scope, key), None)

    async def aclear(self, scope: Scope, *, all_map_indices: bool = False, session: Any = None) -> None:
        await asyncio.sleep(0)
        for place in [place for place in self.kept if place[0] == scope]:
            del self.kept[place]


class OwnSync(CoroutinesOnly):
    """A user's backend with a direct way for sync calls."""

    def __init__(self) -> None:
        super().__init__()
        self.direct: list[str] = []

    def get(self, scope: Scope, key: str, *, session: Any = None) -> str | None:
        self.direct.append("get")
        return self.kept.get((scope, key))

    def set(
        self, scope: Scope, key: str, value: str, *, expires_at: datetime | None = None, session: Any = None
    ) -> None:
        self.direct.append("set")
        self.kept[scope, key] = value

    def delete(self, scope: Scope, key: str, *, session: Any = None) -> None:
        self.direct.append("delete")
        self.kept.pop((scope, key), None)

    def clear(self, scope: Scope, *, all_map_indices: bool = False, session: Any = None) -> None:
        self.direct.append("clear")
        for place in [place for place in self.kept if place[0] == scope]:
            del self.kept[place]


BACKENDS = ["file", "memory", "dict", "coroutines", "own sync"]


def make(kind: str, folder: Path) -> BaseStoreBackend:
    if kind == "file":
        return MetastoreBackend(f"sqlite+aiosqlite:///{folder}/state.db")
    if kind == "memory":
        return MetastoreBackend("sqlite+aiosqlite:///:memory:")
    kinds: dict[str, Callable[[], BaseStoreBackend]] = {
        "dict": MemoryBackend,
        "coroutines": CoroutinesOnly,
        "own sync": OwnSync,
    }
    return kinds[kind]()


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BaseStoreBackend]:
    kind: str = request.param
    backend = make(kind, tmp_path)
    yield backend
    backend.run_blocking(backend.aclose)


def use(store: Store, number: int) -> list[Any]:
    """Use every sync shim that every backend has."""
    state, orders = store.task_state(TASK), store.asset_state[ORDERS]
    seen: list[Any] = [state.get("async"), orders.get("async")]
    state.set("sync", number)
    orders.set("sync", number)
    seen += [state.get("sync"), orders.get("sync"), state.get_many(["sync", "none"])]
    state.set("gone", 1)
    state.delete("gone")
    seen.append(state.get("gone", default="none"))
    return seen


def expected(number: int) -> list[Any]:
    return [number, number, number, number, {"sync": number}, "none"]


async def use_async(store: Store, number: int) -> None:
    await store.task_state(TASK).aset("async", number)
    await store.asset_state[ORDERS].aset("async", number)


async def seen_async(store: Store) -> list[Any]:
    return [await store.task_state(TASK).aget("sync"), await store.asset_state[ORDERS].aget("sync")]


# The four situations of sync code.


def test_in_a_program_without_a_loop(backend: BaseStoreBackend) -> None:
    with connect(backend=backend) as store:
        for number in range(3):
            asyncio.run(use_async(store, number))
            assert use(store, number) == expected(number)
            assert asyncio.run(seen_async(store)) == [number] * 2


@pytest.mark.anyio
async def test_in_a_worker_thread_of_anyio(backend: BaseStoreBackend) -> None:
    async with connect(backend=backend) as store:
        for number in range(3):
            await use_async(store, number)
            assert await anyio.to_thread.run_sync(use, store, number) == expected(number)
            assert await seen_async(store) == [number] * 2


@pytest.mark.anyio
async def test_in_any_other_thread_while_the_loop_is_blocked(backend: BaseStoreBackend) -> None:
    async with connect(backend=backend) as store:
        for number in range(3):
            await use_async(store, number)
            with ThreadPoolExecutor(1) as pool:
                # `result` is awaited by the loop's thread: nothing of this loop runs meanwhile.
                assert pool.submit(use, store, number).result(PATIENCE) == expected(number)
            assert await seen_async(store) == [number] * 2


@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore::asyncstore.BlockingCallWarning")
async def test_on_the_event_loop(backend: BaseStoreBackend) -> None:
    async with connect(backend=backend) as store:
        for number in range(3):
            await use_async(store, number)
            assert use(store, number) == expected(number)
            assert await seen_async(store) == [number] * 2


@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore::asyncstore.BlockingCallWarning")
async def test_on_the_event_loop_while_coroutines_are_under_way(backend: BaseStoreBackend) -> None:
    async with connect(backend=backend) as store:
        await use_async(store, 0)
        running = [asyncio.create_task(store.task_state(TASK).aset(str(number), number)) for number in range(20)]
        await asyncio.sleep(0)
        assert use(store, 0) == expected(0)
        await asyncio.gather(*running)
        assert store.task_state(TASK).get("19") == 19


@pytest.mark.filterwarnings("ignore::asyncstore.BlockingCallWarning")
def test_a_bare_backend(backend: BaseStoreBackend) -> None:
    async def mixed() -> None:
        await backend.aset(TASK, "b", "2")
        assert backend.get(TASK, "a") == "1"
        backend.set(TASK, "c", "3")
        assert await backend.aget(TASK, "c") == "3"

    backend.set(TASK, "a", "1")
    asyncio.run(mixed())
    assert [backend.get(TASK, key) for key in "abc"] == ["1", "2", "3"]
    backend.delete(TASK, "a")
    assert backend.get(TASK, "a") is None
    backend.clear(TASK)
    assert backend.get(TASK, "b") is None


def test_a_backends_own_way_is_taken() -> None:
    backend = OwnSync()
    with connect(backend=backend) as store:
        store.task_state(TASK).set("key", 1)
        store.task_state(TASK).get("key")
        store.task_state(TASK).delete("key")
        store.task_state(TASK).clear()
    assert backend.direct == ["set", "get", "delete", "clear"]


# The warning.


@pytest.fixture(autouse=True)
def no_call_site_was_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking, "_warned", set[tuple[str, int]]())


def caught_in(work: Callable[[], object], how: str = "always") -> list[warnings.WarningMessage]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter(how)  # type: ignore[arg-type]
        work()
    return [each for each in caught if issubclass(each.category, BlockingCallWarning)]


@pytest.mark.anyio
async def test_the_warning_is_given_once_per_call_site(backend: BaseStoreBackend) -> None:
    async with connect(backend=backend) as store:
        state = store.task_state(TASK)

        def twice_from_two_places() -> None:
            for _ in range(3):
                state.get("key")
                state.set("key", 1)

        caught = caught_in(twice_from_two_places)
    line = twice_from_two_places.__code__.co_firstlineno
    assert [(each.filename, each.lineno) for each in caught] == [(__file__, line + 2), (__file__, line + 3)]
    assert "await the async twin" in str(caught[0].message)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", BACKENDS)
async def test_the_warning_as_an_error(kind: str, tmp_path: Path) -> None:
    backend = make(kind, tmp_path)
    async with backend, connect(backend=backend) as store:
        state = store.task_state(TASK)
        await state.aset("key", "old")
        for _ in range(2):
            with pytest.raises(BlockingCallWarning):
                state.set("key", "new")
            if not isinstance(backend, OwnSync):  # whose `set` is the user's own code
                with pytest.raises(BlockingCallWarning):
                    backend.set(TASK, "key", '"new"')
        assert await state.aget("key") == "old"
    gc.collect()  # a coroutine that was never awaited would warn here


@pytest.mark.anyio
async def test_no_warning_in_a_thread_without_a_loop(backend: BaseStoreBackend) -> None:
    async with connect(backend=backend) as store:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert await asyncio.to_thread(store.task_state(TASK).get, "key") is None
            assert await anyio.to_thread.run_sync(store.task_state(TASK).get, "key") is None


@pytest.mark.anyio
async def test_the_warning_names_the_users_line_for_every_kind_of_call(tmp_path: Path) -> None:
    def in_a_store() -> None:
        with connect(f"sqlite:///{tmp_path}/state.db"):
            pass

    caught = caught_in(in_a_store)
    first = in_a_store.__code__.co_firstlineno
    assert {(each.filename, each.lineno) for each in caught} == {(__file__, first + 1)}


# Never a deadlock.


@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore::asyncstore.BlockingCallWarning")
async def test_a_coroutine_that_waits_for_the_blocked_loop() -> None:
    free = asyncio.Event()
    ended: list[str] = []

    class Waiting(CoroutinesOnly):
        lock_timeout = 0.1

        async def aget(self, scope: Scope, key: str, *, session: Any = None) -> str | None:
            try:
                while not free.is_set():  # noqa: ASYNC110 - it belongs to the caller's loop, which alone sets it
                    await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise
            return None

    async with connect(backend=Waiting()) as store:
        asyncio.get_running_loop().call_soon(free.set)
        began = time.monotonic()
        with pytest.raises(StoreBusyError, match="the blocked event loop may hold what it waits for"):
            store.task_state(TASK).get("key")
        assert time.monotonic() - began < 5
        await asyncio.sleep(0)
        assert store.task_state(TASK).get("key") is None
    assert ended == ["cancelled"]


@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore::asyncstore.BlockingCallWarning")
async def test_a_lock_that_the_blocked_loop_holds_itself(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    settings = Settings(database=DatabaseSettings(lock_timeout=0.1))
    async with connect(f"sqlite:///{path}", settings=settings) as store:
        state = store.task_state(TASK)
        await state.aset("key", "old")
        with closing(sqlite3.connect(path, isolation_level=None)) as own:
            own.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            with pytest.raises(StoreBusyError):
                state.set("key", "new")
            assert time.monotonic() - began < 5
            own.execute("ROLLBACK")
        assert state.get("key") == "old"
        state.set("key", "new")
        assert await state.aget("key") == "new"


@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore::asyncstore.BlockingCallWarning")
@pytest.mark.parametrize("kind", ["file", "memory", "dict"])
async def test_sync_calls_inside_the_function_of_an_update(kind: str, tmp_path: Path) -> None:
    async with make(kind, tmp_path) as backend, connect(backend=backend) as store:
        state = store.task_state(TASK)
        await state.aset("step", 2)

        def add(value: Any) -> Any:
            state.set("seen", value)
            return value + state.get("step")

        async def add_async(value: Any) -> Any:
            await state.aset("seen", value)
            return add(value)

        assert await state.aupdate("n", add, default=0) == 2
        assert await state.aupdate("n", add_async) == 4
        assert state.update("n", add) == 6
        assert await asyncio.to_thread(state.update, "n", add) == 8
        assert await state.aget("seen") == 6
        with pytest.raises(TypeError, match="await aupdate"):
            state.update("n", add_async)


def test_a_loop_of_the_users_inside_the_function_of_an_update(tmp_path: Path) -> None:
    with connect(f"sqlite:///{tmp_path}/state.db") as store:
        state = store.task_state(TASK)

        def add(value: Any) -> Any:
            assert not inline()
            return value + asyncio.run(state.aget("step", default=5))

        assert state.update("n", add, default=1) == 6


# The parts.


async def answer(value: object) -> object:
    return value


def test_drive_runs_in_place_and_nests() -> None:
    async def outer() -> object:
        assert inline()
        with outside():
            assert not inline()
            assert drive(answer(2)) == 2
        assert inline()
        return drive(answer(1))

    assert drive(outer()) == 1
    assert not inline()


def test_drive_refuses_what_suspends() -> None:
    closed: list[bool] = []

    async def suspends() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            closed.append(inline())

    with pytest.raises(RuntimeError, match="suspended where only a blocking call was possible"):
        drive(suspends())
    assert closed == [False]
    assert not inline()


def test_drive_is_left_on_every_error() -> None:
    async def fails(error: BaseException) -> None:
        raise error

    for error in (ValueError(), KeyboardInterrupt(), SystemExit()):
        with pytest.raises(type(error)):
            drive(fails(error))
        assert not inline()


@pytest.mark.parametrize("error", [ValueError("own"), TimeoutError("own"), SystemExit(3), KeyboardInterrupt("own")])
def test_an_error_of_the_coroutine_comes_through(error: BaseException) -> None:
    async def fails() -> None:
        raise error

    for _ in range(2):  # and the private loop survives it
        with pytest.raises(type(error)) as caught:
            run_on_portal(fails, lock_timeout=1)
        assert caught.value is error
    assert run_on_portal(answer, "next", lock_timeout=1) == "next"


@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore::asyncstore.BlockingCallWarning")
async def test_a_timeout_of_the_coroutines_own_on_the_loop() -> None:
    async def fails() -> None:
        raise TimeoutError("own")

    with pytest.raises(TimeoutError, match="own"):
        run_on_portal(fails, lock_timeout=5)


def test_a_task_that_ends_the_private_loop_ends_it_for_nobody_else() -> None:
    async def fails() -> None:
        raise SystemExit(3)

    async def leaves_a_task() -> None:
        task = asyncio.create_task(fails())
        with pytest.raises(SystemExit):
            await task

    for _ in range(3):
        run_on_portal(leaves_a_task, lock_timeout=1)
        assert run_on_portal(answer, 1, lock_timeout=1) == 1


def test_an_interrupted_wait_cancels_the_coroutine() -> None:
    started, ended = threading.Event(), threading.Event()

    async def waits() -> None:
        started.set()
        try:
            await asyncio.sleep(PATIENCE)
        finally:
            ended.set()

    def interrupt() -> None:
        assert started.wait(PATIENCE)
        main = threading.main_thread().ident or 0
        while sys._current_frames()[main].f_code.co_name != "wait":  # pyright: ignore[reportPrivateUsage]
            pass
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_on_portal(waits, lock_timeout=1)
    thread.join()
    assert ended.wait(PATIENCE)


def test_a_coroutine_that_is_cancelled() -> None:
    async def cancelled() -> None:
        raise asyncio.CancelledError

    with pytest.raises(StoreError, match="cancelled before it ended"):
        run_on_portal(cancelled, lock_timeout=1)


def test_at_the_end_those_who_still_wait_are_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    portal = blocking._Portal()  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(blocking, "_portal", portal)
    begun = threading.Event()

    async def wait() -> None:
        begun.set()
        await asyncio.sleep(PATIENCE)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: run_on_portal(wait, lock_timeout=1))
        assert begun.wait(PATIENCE)
        loop = portal.get()
        portal.stop()
        with pytest.raises(StoreError, match="cancelled before it ended"):
            waiting.result(PATIENCE)
    assert loop.is_closed()
    assert run_on_portal(answer, 1, lock_timeout=1) == 1  # a later call starts another one
    portal.stop()


class Wrapping(CoroutinesOnly):
    """A backend whose coroutine makes sync calls of another one, on the private loop's own thread."""

    def __init__(self, inner: BaseStoreBackend) -> None:
        super().__init__()
        self.inner = inner

    async def aget(self, scope: Scope, key: str, *, session: Any = None) -> str | None:
        return self.inner.get(scope, key)

    async def aset(
        self, scope: Scope, key: str, value: str, *, expires_at: datetime | None = None, session: Any = None
    ) -> None:
        self.inner.set(scope, key, value, expires_at=expires_at)


@pytest.mark.filterwarnings("ignore::asyncstore.BlockingCallWarning")
def test_sync_calls_on_the_private_loop_itself(backend: BaseStoreBackend) -> None:
    outer = Wrapping(Wrapping(backend))
    outer.set(TASK, "key", "1")
    assert outer.get(TASK, "key") == backend.get(TASK, "key") == "1"


@pytest.mark.anyio
async def test_in_thread_gives_the_result_and_the_error() -> None:
    assert await in_thread(threading.current_thread, name="of its own") is not threading.current_thread()
    assert (await in_thread(threading.current_thread, name="of its own")).name == "of its own"
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0, name="failing")


@pytest.mark.anyio
@pytest.mark.parametrize("scoped", [False, True], ids=["task", "scope"])
async def test_in_thread_ends_before_a_cancellation_is_raised(scoped: bool) -> None:
    release = threading.Event()
    told: list[str] = []
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def work() -> None:
        loop.call_soon_threadsafe(begun.set)
        assert release.wait(PATIENCE)
        told.append("ended")

    def cancelled() -> None:
        told.append("cancelled")
        release.set()

    async def wait() -> None:
        try:
            await in_thread(work, name="working", cancelled=cancelled)
        except asyncio.CancelledError:
            told.append("raised")
            raise

    if scoped:
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await begun.wait()
            group.cancel_scope.cancel()
    else:
        task = asyncio.create_task(wait())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert told == ["cancelled", "ended", "raised"]


def test_in_thread_may_outlive_its_loop() -> None:
    release = threading.Event()
    loop = asyncio.new_event_loop()
    task = loop.create_task(in_thread(lambda: release.wait(PATIENCE), name="left behind"))
    loop.run_until_complete(asyncio.sleep(0))
    (thread,) = [each for each in threading.enumerate() if each.name == "left behind"]
    loop.close()
    release.set()
    thread.join(PATIENCE)
    assert not task.done()
    task.get_coro().close()  # nobody will run it any more
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del task
        gc.collect()


@pytest.mark.anyio
async def test_in_thread_does_not_spin_in_a_cancelled_scope(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    waits = 0
    wait = asyncio.wait

    def counted(*args: Any, **options: Any) -> Any:
        nonlocal waits
        waits += 1
        return wait(*args, **options)

    monkeypatch.setattr(asyncio, "wait", counted)
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: in_thread(lambda: release.wait(PATIENCE), name="slow"))
        await asyncio.sleep(0)
        group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            for _ in range(50):
                await asyncio.sleep(0)
        release.set()
    assert waits == 2


@pytest.mark.filterwarnings("ignore::asyncstore.BlockingCallWarning")
def test_a_store_needs_no_executor(tmp_path: Path) -> None:
    async def late() -> int:
        await asyncio.get_running_loop().shutdown_default_executor()
        async with connect(f"sqlite:///{tmp_path}/state.db") as store:
            await store.task_state(TASK).aset("key", 1)
            return int(await store.task_state(TASK).aget("key"))

    assert asyncio.run(late()) == 1
