"""A program ends promptly and without a word, whatever it left open; `-X dev -W error` shows what would be said."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from asyncstore import connect

from .support import TASK, Child, locked

STRICT = ("-X", "dev", "-W", "error")

HEAD = """
import asyncio, logging, threading, time
# On a busy machine asyncio's debug mode warns of slow callbacks; what is wrong it logs as an error.
logging.getLogger("asyncio").setLevel(logging.ERROR)
from asyncstore import Asset, BaseStoreBackend, MemoryBackend, MetastoreBackend, TaskScope, connect
scope = TaskScope("dag", "run", "task")
url = sys.argv[1]

class Own(BaseStoreBackend):
    def __init__(self): self.kept = {}
    async def aget(self, scope, key, *, session=None): return self.kept.get((scope, key))
    async def aset(self, scope, key, value, *, expires_at=None, session=None): self.kept[scope, key] = value
    async def adelete(self, scope, key, *, session=None): self.kept.pop((scope, key), None)
    async def aclear(self, scope, *, all_map_indices=False, session=None): self.kept.clear()
"""

PROGRAMS = {
    "a store closed in order, twice on one loop and twice without": """
async def main():
    for _ in range(2):
        async with connect(url) as store:
            await store.task_state(scope).aset("key", 1)
asyncio.run(main())
asyncio.run(main())
for _ in range(2):
    with connect(url) as store:
        store.task_state(scope).set("key", 1)
""",
    "stores that nobody closes": """
async def main():
    store = await connect(url).__aenter__()
    await store.task_state(scope).aset("key", 1)
    return store
kept = asyncio.run(main())
also = connect(url).__enter__()
also.task_state(scope).set("key", 2)
connect("sqlite://").__enter__().task_state(scope).set("key", 2)
""",
    "a bare backend, used async and sync, that nobody closes": """
backend = MetastoreBackend(url)
backend.set(scope, "key", "1")
asyncio.run(backend.aset(scope, "key", "2"))
assert backend.get(scope, "key") == "2"
MetastoreBackend(url).get(scope, "key")
asyncio.run(MetastoreBackend(url).aget(scope, "key"))
""",
    "a private loop that was started": """
backend = Own()
backend.set(scope, "key", "1")
with connect(backend=backend) as store:
    assert store.task_state(scope).get("key") == 1
""",
    "a private loop that still waits for somebody": """
class Stuck(Own):
    async def aget(self, scope, key, *, session=None):
        begun.set()
        await asyncio.sleep(3600)
begun = threading.Event()
def wait():
    try:
        Stuck().get(scope, "key")
    except Exception as error:
        assert "cancelled before it ended" in str(error)
threading.Thread(target=wait, daemon=True).start()
begun.wait()
""",
    "a loop that ends while a thread waits for a lock": """
import sqlite3
other = sqlite3.connect(sys.argv[2], isolation_level=None)
async def main():
    store = await connect(url).__aenter__()
    state = store.task_state(scope)
    await state.aset("key", 1)
    other.execute("BEGIN IMMEDIATE")
    task = asyncio.create_task(state.aset("key", 2))
    await asyncio.sleep(0)
    return store
kept = asyncio.run(main())
other.close()
assert kept.task_state(scope).get("key") in (1, 2)  # it may have got the lock in that instant
""",
    "a watch that nobody ends": """
async def main():
    store = await connect(url).__aenter__()
    texts = store.task_state(scope).awatch("key")
    assert await anext(texts) in (None, 1)
    kept.append((store, texts))
kept = []
asyncio.run(main())
""",
    "an error in the block": """
async def main():
    async with connect(url) as store:
        await store.task_state(scope).aset("key", 1)
        raise SystemExit(0)
asyncio.run(main())
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_nothing_is_said_at_exit(name: str, url: str, path: Path) -> None:
    with Child(HEAD + PROGRAMS[name], url, str(path), options=STRICT) as child:
        assert child.end() == (0, "", "")
    with closing(sqlite3.connect(path)) as raw:  # and nobody holds a lock
        raw.execute("BEGIN IMMEDIATE")


SYNC_WAIT = """
with connect(url) as store:
    try:
        say("ready")
        store.task_state(scope).set("key", "new")
    except KeyboardInterrupt:
        say(store.task_state(scope).get("key"))
"""

ASYNC_WAIT = """
async def main():
    async with connect(url) as store:
        try:
            say("ready")
            await store.task_state(scope).aset("key", "new")
        except asyncio.CancelledError:
            say(await store.task_state(scope).aget("key"))
            raise
try:
    asyncio.run(main())
except KeyboardInterrupt:
    pass
"""


@pytest.mark.parametrize("program", [SYNC_WAIT, ASYNC_WAIT], ids=["sync", "async"])
def test_control_c_while_waiting_for_a_lock(program: str, url: str, path: Path) -> None:
    with connect(url) as store:
        store.task_state(TASK).set("key", "old")
    with locked(path) as holder, Child(HEAD + program, url, options=STRICT) as child:
        assert child.hear() == "ready"
        child.process.send_signal(signal.SIGINT)
        assert child.hear() == "old"
        assert child.end() == (0, "", "")
        holder.execute("ROLLBACK")
    with connect(url) as store:
        assert store.task_state(TASK).get("key") == "old"
