"""Several processes, threads, stores and event loops on one database."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from asyncstore import Asset, MetastoreBackend, Store, StoreClosedError, TaskScope, connect

from .support import PATIENCE, TASK, Child, Connections

pytestmark = pytest.mark.anyio

ORDERS = Asset("orders", uri="s3://bucket/orders")
# From Python 3.12 on a fork warns where there are threads; it is what these tests are about.
FORKING = ("-X", "dev", "-W", "error", "-W", "ignore:This process:DeprecationWarning")

CREATOR = """
import alembic.command
from asyncstore import TaskScope, connect
import asyncstore.backends.metastore
say("ready")
for _ in range(int(sys.argv[1])):
    url, number = hear()
    try:
        with connect(url) as store:
            store.task_state(TaskScope("dag", "run", "task")).set(str(number), number)
        say(None)
    except Exception as error:
        say(repr(error))
"""


def test_several_processes_create_one_file_at_once(tmp_path: Path) -> None:
    rounds, count = 3, 4
    with ExitStack() as stack:
        children = [stack.enter_context(Child(CREATOR, str(rounds))) for _ in range(count)]
        assert [child.hear() for child in children] == ["ready"] * count
        for each in range(rounds):
            url = f"sqlite:///{tmp_path}/{each}.db"
            for number, child in enumerate(children):
                child.say([url, number])
            assert [child.hear() for child in children] == [None] * count
            with connect(url) as store:
                assert store.task_state(TASK).keys() == [str(number) for number in range(count)]


def at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Call a function in several threads that begin together; gives what they return."""
    barrier = threading.Barrier(count, timeout=PATIENCE)

    def begin(number: int) -> Any:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))


def test_several_threads_create_several_files_at_once(tmp_path: Path) -> None:
    def work(number: int) -> list[str]:
        with connect(f"sqlite:///{tmp_path}/{number}.db") as store:
            store.task_state(TASK).set(str(number), number)
            return store.task_state(TASK).keys()

    assert at_once(8, work) == [[str(number)] for number in range(8)]


def test_several_threads_create_one_file_at_once(url: str) -> None:
    def work(number: int) -> None:
        with connect(url) as store:
            store.task_state(TASK).set(str(number), number)

    at_once(8, work)
    with connect(url) as store:
        assert store.task_state(TASK).keys() == [str(number) for number in range(8)]


async def test_several_tasks_open_one_backend_at_once(url: str, connections: Connections) -> None:
    backend = MetastoreBackend(url)
    await asyncio.gather(*(backend.aset(TASK, str(number), "1") for number in range(20)))
    assert len(await backend.alist_keys(TASK)) == 20
    await backend.aclose()
    assert len(connections.opened) == 2  # one that writes, one that reads
    assert connections.all_closed()


COUNTER = """
import asyncio
from asyncstore import Asset, TaskScope, connect
import asyncstore.backends.metastore
url, rounds, kind = sys.argv[1:]
state_of = lambda store: store.asset_state[Asset("orders")]
say("ready")
hear()
async def main():
    async with connect(url) as store:
        await asyncio.gather(*(state_of(store).aupdate("n", lambda n: n + 1, default=0) for _ in range(int(rounds))))
if kind == "async":
    asyncio.run(main())
else:
    with connect(url) as store:
        for _ in range(int(rounds)):
            state_of(store).update("n", lambda n: n + 1, default=0)
say("done")
"""


def test_no_update_is_lost_between_processes_and_threads(url: str) -> None:
    rounds = 25
    with ExitStack() as stack:
        store = stack.enter_context(connect(url))
        children = [stack.enter_context(Child(COUNTER, url, str(rounds), kind)) for kind in ("sync", "async")]
        assert [child.hear() for child in children] == ["ready"] * 2
        for child in children:
            child.say("go")

        def work(number: int) -> None:
            for _ in range(rounds):
                store.asset_state[ORDERS if number % 2 else Asset("orders")].update("n", lambda n: n + 1, default=0)

        at_once(3, work)
        assert [child.hear() for child in children] == ["done"] * 2
        state = store.asset_state[ORDERS]
        assert state.get("n") == rounds * 5
        entry = state.get_entry("n")
        assert entry is not None
        assert entry.version >= rounds * 5


READER = """
from asyncstore import TaskScope, connect
say("ready")
with connect(sys.argv[1]) as store:
    state = store.task_state(TaskScope("dag", "run", "task"))
    seen = []
    while not seen or seen[-1] != [200, 200]:
        pair = state.get_many(["a", "b"])
        seen.append([pair["a"], pair["b"]])
say(seen)
"""


def test_a_reader_in_another_process_sees_whole_commits_in_order(url: str) -> None:
    with connect(url) as store:
        state = store.task_state(TASK)
        state.set_many({"a": 0, "b": 0})
        with Child(READER, url) as child:
            assert child.hear() == "ready"
            for value in range(1, 201):
                state.set_many({"a": value, "b": value})
            seen = child.hear()
        assert all(a == b for a, b in seen)
        assert seen == sorted(seen)


async def test_two_stores_on_one_file(url: str) -> None:
    async with connect(url) as one, connect(url) as two:
        await one.task_state(TASK).aset("key", 1)
        assert await two.task_state(TASK).aget("key") == 1
        await two.asset_state[ORDERS].aset("key", 2)
        assert await one.asset_state[ORDERS].aget("key") == 2

        async def count(store: Store) -> None:
            for _ in range(50):
                await store.task_state(TASK).aupdate("n", lambda n: n + 1, default=0)

        await asyncio.gather(count(one), count(two), count(one), count(two))
        assert await one.task_state(TASK).aget("n") == 200


def test_two_event_loops_in_two_threads_share_one_store(url: str) -> None:
    with connect(url) as store:

        async def count() -> None:
            state = store.task_state(TASK)
            for _ in range(50):
                await state.aupdate("n", lambda n: n + 1, default=0)

        at_once(3, lambda _: asyncio.run(count()))
        assert store.task_state(TASK).get("n") == 150


def test_a_store_outlives_event_loops(url: str) -> None:
    with connect(url) as store:
        for value in range(3):
            asyncio.run(store.task_state(TASK).aset("key", value))
            assert asyncio.run(store.task_state(TASK).aget("key")) == value
            assert store.task_state(TASK).get("key") == value


def test_a_result_for_a_loop_that_is_gone_is_dropped(url: str, path: Path) -> None:
    with connect(url) as store:
        state = store.task_state(TASK)
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")

        async def leave() -> None:
            asyncio.get_running_loop().create_task(state.aset("key", 1))
            await asyncio.sleep(0)  # it waits for the lock in the lane's thread now

        loop = asyncio.new_event_loop()
        loop.run_until_complete(leave())
        for task in asyncio.all_tasks(loop):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                loop.run_until_complete(task)
        loop.close()
        other.execute("ROLLBACK")
        other.close()
        # The thread that found nobody to answer to still serves others.
        asyncio.run(state.aset("key", 2))
        assert state.get("key") == 2


FORKER = """
import asyncio, os, warnings
from asyncstore import StoreClosedError, TaskScope, connect
scope = TaskScope("dag", "run", "task")
url = sys.argv[1]

def attempt(call):
    try:
        return call()
    except StoreClosedError as error:
        return str(error)

def child(store):
    state = store.task_state(scope)
    found = [attempt(lambda: state.get("key")), attempt(lambda: state.set("key", 2))]
    async def reading():
        return await store.task_state(scope).aget("key")
    found.append(attempt(lambda: asyncio.run(reading())))
    store.backend.run_blocking(store.backend.aclose)
    with connect(url) as anew:
        anew.task_state(scope).set("child", 1)
        found.append(asyncio.run(anew.task_state(scope).aget("key")))
    return found

with connect(url) as store:
    state = store.task_state(scope)
    state.set("key", 1)
    asyncio.run(state.aset("more", 1))  # so that the lane has its thread
    receiving, sending = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(sending, json.dumps(child(store)).encode())
        os.close(sending)
        sys.exit()
    os.close(sending)
    with os.fdopen(receiving) as answer:
        found = json.load(answer)
    os.waitpid(pid, 0)
    say(found)
    state.set("key", 3)
    say([asyncio.run(state.aget("key")), state.get("child")])
"""


def test_a_forked_child_must_connect_anew(url: str) -> None:
    with Child(FORKER, url, options=FORKING) as forker:
        used, written, awaited, anew = forker.hear()
        assert "opened before a fork; connect anew" in used
        assert used == written == awaited
        assert anew == 1
        assert forker.hear() == [3, 1]
        assert forker.end()[::2] == (0, "")


def test_closing_while_threads_work(url: str) -> None:
    store = connect(url)
    store.__enter__()
    state = store.task_state(TASK)
    written: list[int] = []
    refused: list[str] = []
    started = threading.Barrier(3, timeout=PATIENCE)

    def work(number: int) -> None:
        for value in range(10_000):
            if value == 5:
                started.wait()
            try:
                state.set(str(number), value)
            except StoreClosedError as error:
                refused.append(str(error))
                break
            written[number] = value

    written += [0, 0]
    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    started.wait()
    store.__exit__(None, None, None)
    for thread in threads:
        thread.join(PATIENCE)
    assert [text[-9:] for text in refused] == ["is closed"] * 2
    with connect(url) as again:
        assert again.task_state(TASK).get_many(["0", "1"]) == {"0": written[0], "1": written[1]}


def test_scopes_of_other_processes_do_not_mix(url: str) -> None:
    with connect(url) as store:
        for map_index in (-1, 0, 1):
            store.task_state(TaskScope("dag", "run", "task", map_index)).set("key", map_index)
        for map_index in (-1, 0, 1):
            assert store.task_state(TaskScope("dag", "run", "task", map_index)).get("key") == map_index


PRIVATE_LOOP = """
import asyncio, os
from asyncstore import BaseStoreBackend, TaskScope, connect
scope = TaskScope("dag", "run", "task")

class Own(BaseStoreBackend):
    def __init__(self): self.kept = {}
    async def aget(self, scope, key, *, session=None):
        await asyncio.sleep(0)
        return self.kept.get(key)
    async def aset(self, scope, key, value, *, expires_at=None, session=None):
        await asyncio.sleep(0)
        self.kept[key] = value
    async def adelete(self, scope, key, *, session=None): self.kept.pop(key, None)
    async def aclear(self, scope, *, all_map_indices=False, session=None): self.kept.clear()

own = Own()
own.set(scope, "key", "1")  # starts the private loop
pid = os.fork()
if pid == 0:
    own.set(scope, "key", own.get(scope, "key") + "2")
    say(own.get(scope, "key"))
    sys.exit()
say(os.waitpid(pid, 0)[1])
own.set(scope, "key", own.get(scope, "key") + "3")
say(own.get(scope, "key"))
"""


def test_a_forked_child_has_a_private_loop_of_its_own() -> None:
    with Child(PRIVATE_LOOP, options=FORKING) as forker:
        assert [forker.hear() for _ in range(3)] == ["12", 0, "13"]
        assert forker.end()[::2] == (0, "")
