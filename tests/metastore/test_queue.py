"""Processes that write take turns at a lock beside the database; whatever is wrong with it does no harm."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from asyncstore import Store, TaskScope, connect
from asyncstore.backends.metastore.sqlite import queue
from asyncstore.backends.metastore.sqlite.queue import Queue

from .support import PATIENCE, TASK, Child, locked

pytestmark = pytest.mark.anyio

NAMES = ("sync", "async", "batches")

WRITER = """
import asyncio
from asyncstore import TaskScope, connect
url, name = sys.argv[1:]
state_of = lambda store: store.task_state(TaskScope("dag", "run", name))
done = False
async def write(store, key):
    n = 0
    while not done:
        n += 1
        await state_of(store).aset(key, n)
async def watch(store):
    global done
    while not await store.task_state(TaskScope("dag", "run", "end")).aget("end"):
        await asyncio.sleep(0.01)
    done = True
async def main():
    async with connect(url) as store:
        say("ready")
        await asyncio.gather(watch(store), *(write(store, f"{n}") for n in range(16 if name == "batches" else 1)))
if name == "sync":
    with connect(url) as store:
        say("ready")
        n = 0
        while n % 16 or not store.task_state(TaskScope("dag", "run", "end")).get("end"):
            n += 1
            state_of(store).set("0", n)
else:
    asyncio.run(main())
say("done")
"""


@pytest.fixture
def file(path: Path) -> Path:
    """Where the queue is."""
    return path.with_name(f"{path.name}-queue")


@contextmanager
def writers(url: str, *names: str) -> Generator[list[Child]]:
    """Have processes write as fast as they can, each in a task instance of its own."""
    with ExitStack() as stack:
        children = [stack.enter_context(Child(WRITER, url, name)) for name in names]
        assert [child.hear() for child in children] == ["ready"] * len(names)
        yield children


@contextmanager
def held(file: Path) -> Generator[int]:
    """Hold the lock of the queue, as somebody does who was stopped at the wrong moment."""
    handle = os.open(file, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


async def reached(store: Store, name: str, least: int) -> int:
    """Wait until somebody has written so often; gives how often it was."""
    state = store.task_state(TaskScope("dag", "run", name))
    async with asyncio.timeout(PATIENCE):
        while (count := int(await state.aget("0", 0))) < least:  # noqa: ASYNC110 - in another process there is no event
            await asyncio.sleep(0.001)
    return count


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    async with connect(url) as store:
        yield store


# Turns.


async def test_all_make_progress_in_turn(url: str, store: Store, path: Path) -> None:
    with writers(url, *NAMES) as children:
        for _ in range(10):  # each of them again and again, whoever went on meanwhile
            for name in NAMES:
                await reached(store, name, await reached(store, name, 1) + 1)
        # And who comes now and then gets in, too.
        for number in range(20):
            await store.task_state(TASK).aset("key", number)
        await store.task_state(TaskScope("dag", "run", "end")).aset("end", value=True)
        assert [child.hear() for child in children] == ["done"] * 3
        assert [child.end() for child in children] == [(0, "", "")] * 3
    assert await store.task_state(TASK).aget("key") == 19
    await store.__aexit__(None, None, None)
    assert os.listdir(path.parent) == [path.name]
    await store.__aenter__()


async def test_two_stores_of_one_process_take_turns(url: str, path: Path) -> None:
    async with connect(url) as one, connect(url) as two:
        for round_ in range(10):
            calls = [store.task_state(TASK).aset(f"{n}", round_) for n in range(10) for store in (one, two)]
            await asyncio.gather(*calls)
    assert os.listdir(path.parent) == [path.name]


def test_whoever_has_it_keeps_others_out(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "_COURTESY", PATIENCE)
    one, two = Queue(path), Queue(path)
    order: list[str] = []
    waiting = threading.Event()

    def come() -> None:
        with two.turn():
            order.append("two")

    lock = queue._lock  # pyright: ignore[reportPrivateUsage]

    def told(handle: int) -> bool:
        found = lock(handle)
        if not found:
            waiting.set()
        return found

    monkeypatch.setattr(queue, "_lock", told)
    with one.turn():
        thread = threading.Thread(target=come)
        thread.start()
        assert waiting.wait(PATIENCE)
        order.append("one")
    thread.join(PATIENCE)
    assert order == ["one", "two"]
    one.close()
    two.close()


def test_an_error_ends_the_turn(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "_COURTESY", PATIENCE)
    one, two = Queue(path), Queue(path)
    for _ in range(3):
        with pytest.raises(KeyError), one.turn():
            raise KeyError
        with two.turn():
            pass
    one.close()
    two.close()


async def test_who_waits_for_the_database_waits_outside(store: Store, path: Path, file: Path) -> None:
    await store.task_state(TASK).aset("key", 1)
    handle = os.open(file, os.O_RDWR)
    try:
        with locked(path):
            writing = asyncio.ensure_future(store.task_state(TASK).aset("key", 2))
            async with asyncio.timeout(PATIENCE):
                while True:  # between two attempts it is free
                    try:
                        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        await asyncio.sleep(0)
                    else:
                        break
            fcntl.flock(handle, fcntl.LOCK_UN)
            assert not writing.done()
        await writing
    finally:
        os.close(handle)


# Those who do not give it back.


@pytest.mark.parametrize("kind", ["async", "sync", "batch", "procedure"])
@pytest.mark.filterwarnings("ignore::asyncstore.BlockingCallWarning")
async def test_a_holder_that_does_nothing_is_passed_by(store: Store, file: Path, kind: str) -> None:
    state = store.task_state(TASK)
    await state.aset("key", 0)
    with held(file):
        async with asyncio.timeout(PATIENCE):
            if kind == "async":
                await state.aset("key", 1)
            elif kind == "sync":
                state.set("key", 1)
            elif kind == "batch":
                await asyncio.gather(*(state.aset("key", 1) for _ in range(20)))
            else:
                await store.adelete_run("dag", "none")
                await state.aset("key", 1)
        assert await state.aget("key") == 1
    await state.aset("key", 2)


STOPPED = """
import os
from asyncstore.backends.metastore.sqlite.queue import Queue
from pathlib import Path
with Queue(Path(sys.argv[1])).turn():
    say("mine")
    hear()
say("over")
"""


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
async def test_a_stopped_process_is_passed_by(store: Store, path: Path, file: Path, how: signal.Signals) -> None:
    state = store.task_state(TASK)
    with Child(STOPPED, str(path)) as child:
        assert child.hear() == "mine"
        child.process.send_signal(how)
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(state.aset(f"{number}", number) for number in range(20)))
        if how is signal.SIGSTOP:
            child.process.send_signal(signal.SIGCONT)
            child.say(None)
            assert child.hear() == "over"
            assert child.end()[0] == 0
    assert len(await state.akeys()) == 20
    await store.__aexit__(None, None, None)
    assert not file.exists()  # also what the killed one left
    await store.__aenter__()


async def test_writers_that_are_stopped_somewhere(url: str, store: Store) -> None:
    # Wherever it stops it: others go on, unless it is inside a transaction of SQLite's.
    with writers(url, "sync", "batches") as (one, two):
        for _ in range(5):
            for child, other in ((one, "batches"), (two, "sync")):
                seen = await reached(store, other, 1)
                child.process.send_signal(signal.SIGSTOP)
                await asyncio.sleep(0)
                child.process.send_signal(signal.SIGCONT)
                await reached(store, other, seen + 1)
        await store.task_state(TaskScope("dag", "run", "end")).aset("end", value=True)
        assert [child.hear() for child in (one, two)] == ["done"] * 2


FORKER = """
import os
from asyncstore import TaskScope, connect
scope = TaskScope("dag", "run", "task")
with connect(sys.argv[1]) as store:
    store.task_state(scope).set("key", 1)
    there = os.stat(sys.argv[2] + "-queue").st_ino
    def has_it():
        handles = [int(name) for name in os.listdir("/dev/fd")]
        return there in [os.fstat(handle).st_ino for handle in handles if os.path.exists(f"/dev/fd/{handle}")]
    say(has_it())
    end, begin = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(begin)
        say(has_it())
        os.read(end, 1)
        os._exit(0)
    hear()  # of the two, only this one: they would share the buffer
    store.task_state(scope).set("key", 2)
say(os.listdir(os.path.dirname(sys.argv[2])))
os.close(begin)
os.waitpid(pid, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_has_no_part_in_it(url: str, path: Path) -> None:
    options = ("-W", "ignore::DeprecationWarning")
    with Child(FORKER, url, str(path), options=options) as forker:
        assert forker.hear() is True
        assert forker.hear() is False
        forker.say(None)
        assert "state.db-queue" not in forker.hear()


def test_a_program_that_is_started_has_no_part_in_it(url: str, file: Path) -> None:
    with connect(url) as store:
        store.task_state(TASK).set("key", 1)
        there = file.stat().st_ino
        kept = [number for number in range(3, 100) if inode(number) == there]
        assert len(kept) == 1
        command = [sys.executable, "-c", f"import os; os.fstat({kept[0]})"]
        done = subprocess.run(command, capture_output=True, text=True, close_fds=False, check=False)
        assert "Bad file descriptor" in done.stderr


def inode(handle: int) -> int | None:
    try:
        return os.fstat(handle).st_ino
    except OSError:
        return None


# The file.


def test_the_file_goes_away_with_the_last_store(url: str, path: Path, file: Path) -> None:
    with connect(url) as one:
        assert not file.exists()  # nobody has written
        one.task_state(TASK).set("key", 1)
        assert file.exists()
        with connect(url) as two:
            two.task_state(TASK).set("key", 2)
            with connect(url) as reader:
                assert reader.task_state(TASK).get("key") == 2
            assert file.exists()  # it took no part
        # Whoever still needs it makes it anew.
        one.task_state(TASK).set("key", 3)
        assert file.exists()
    assert os.listdir(path.parent) == [path.name]


def test_a_file_that_somebody_removed_is_made_anew(url: str, path: Path, file: Path) -> None:
    with connect(url) as store:
        for value in range(3):
            store.task_state(TASK).set("key", value)
            file.unlink()
        store.task_state(TASK).set("key", 3)
        assert file.exists()
    assert os.listdir(path.parent) == [path.name]


def test_a_file_that_was_left_is_used(url: str, file: Path) -> None:
    file.write_text("left by somebody who was killed")
    there = file.stat().st_ino
    with connect(url) as store:
        store.task_state(TASK).set("key", 1)
        assert file.stat().st_ino == there
    assert not file.exists()


def test_in_memory_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with connect("sqlite://") as store:
        store.task_state(TASK).set("key", 1)
        assert os.listdir(tmp_path) == []


# What goes wrong does no harm.


def refuse_to_open(*_: Any) -> int:
    raise PermissionError(13, "Permission denied")


def refuse_to_lock(*_: Any) -> bool:
    raise OSError(95, "Operation not supported")


@pytest.mark.parametrize("what", ["read-only", "no locks", "a folder", "gone"])
async def test_without_a_queue_all_goes_on(url: str, file: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connect(url) as one, connect(url) as two:
        await two.task_state(TASK).aset("key", 0)
        if what == "read-only":
            monkeypatch.setattr(Queue, "_open", refuse_to_open)
        elif what == "no locks":
            monkeypatch.setattr(queue, "_lock", refuse_to_lock)
        else:
            file.unlink()
            if what == "a folder":
                file.mkdir()
        calls = [store.task_state(TASK).aupdate("n", lambda n: n + 1, default=0) for store in (one, two) * 10]
        await asyncio.gather(*calls)
        assert await one.task_state(TASK).aget("n") == 20
        async with connect(url) as third:
            await asyncio.to_thread(third.task_state(TASK).set, "key", 1)
    if what == "a folder":
        file.rmdir()
