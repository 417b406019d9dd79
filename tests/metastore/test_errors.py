"""What is wrong with a database is said in the store's words, with the path, chained to what the driver said."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from asyncstore import (
    Asset,
    AssetScope,
    ConfigurationError,
    DatabaseError,
    DatabaseSettings,
    MetastoreBackend,
    SchemaError,
    Settings,
    Store,
    StoreBusyError,
    StoreClosedError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
    connect,
)
from asyncstore.backends.metastore import migrate
from asyncstore.backends.metastore.sqlite import migrate as sqlite_migrate
from asyncstore.records import WatcherState

from .support import PATIENCE, TASK, Child, Connection, Connections, locked

pytestmark = pytest.mark.anyio

ORDERS = Asset("orders", uri="s3://bucket/orders")
QUICK = Settings(database=DatabaseSettings(lock_timeout=0.05))


def open_and_write(url: str) -> None:
    with connect(url, settings=QUICK) as store:
        store.task_state(TASK).set("key", 1)


def check(error: BaseException, path: Path, *, cause: type[BaseException] | None = sqlite3.Error) -> None:
    """Hold that an error names the file and is chained to the driver's."""
    assert isinstance(error, StoreError)
    assert repr(str(path)) in str(error)
    if cause is not None:
        assert isinstance(error.__cause__, cause)


# Locked.


async def test_a_lock_that_another_process_holds(url: str, path: Path) -> None:
    holder = """
import sqlite3
raw = sqlite3.connect(sys.argv[1], isolation_level=None)
raw.execute("BEGIN IMMEDIATE")
say("locked")
hear()
raw.execute("ROLLBACK")
say("free")
hear()
"""
    async with connect(url, settings=QUICK) as store:
        state = store.task_state(TASK)
        await state.aset("key", 1)
        with Child(holder, str(path)) as child:
            assert child.hear() == "locked"
            with pytest.raises(StoreBusyError, match="locked by another process") as caught:
                await state.aset("key", 2)
            check(caught.value, path)
            with pytest.raises(StoreBusyError):
                await store.asset_state[ORDERS].aset("key", 2)
            assert await state.aget("key") == 1
            child.say(None)
            assert child.hear() == "free"
            await state.aset("key", 3)
            assert await state.aget("key") == 3


async def test_everybody_who_waits_for_a_lock_gives_up_in_time(url: str, path: Path) -> None:
    settings = Settings(database=DatabaseSettings(lock_timeout=0.3))
    async with connect(url, settings=settings) as store:
        state = store.task_state(TASK)
        await state.aset("key", 0)
        with locked(path):
            began = time.monotonic()
            results = await asyncio.gather(*(state.aset("key", n) for n in range(1, 21)), return_exceptions=True)
            took = time.monotonic() - began
        assert [type(result) for result in results] == [StoreBusyError] * 20
        # Not one lock timeout after the other: that would be six seconds.
        assert 0.3 <= took < 3
        assert await state.aget("key") == 0
        await state.aset("key", 1)


async def test_a_lock_that_is_released_in_time_is_no_error(url: str, path: Path) -> None:
    async with connect(url) as store:
        state = store.task_state(TASK)
        with locked(path):
            writing = [asyncio.create_task(state.aset(str(n), n)) for n in range(5)]
            assert await state.aget("0") is None
        await asyncio.gather(*writing)
        assert await state.akeys() == ["0", "1", "2", "3", "4"]


def test_a_lock_while_the_tables_are_made(url: str, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusyError) as caught:
            open_and_write(url)
        check(caught.value, path)
        other.execute("ROLLBACK")
    open_and_write(url)


@pytest.mark.parametrize("released", [False, True])
def test_a_lock_against_reading(url: str, path: Path, connections: Connections, released: bool) -> None:
    open_and_write(url)
    connections.opened.clear()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        other.execute("CREATE TABLE other (a)")

        def release(raw: Connection) -> None:
            if [raw] == connections.opened[1:]:  # the second attempt: the first has met the lock
                other.close()

        if released:
            connections.prepare = release  # type: ignore[method-assign]
            with connect(url) as store:
                assert store.task_state(TASK).get("key") == 1
        else:
            with pytest.raises(StoreBusyError) as caught:
                open_and_write(url)
            check(caught.value, path)
        assert len(connections.opened) >= 2
        assert connections.all_closed()
    open_and_write(url)


# Read-only. A child gives up its privileges for it: root may write everything.

UNPRIVILEGED = """
import os
from asyncstore import StoreError, TaskScope, connect
warm = sys.argv[1]
scope = TaskScope("dag", "run", "task")
with connect(warm) as store:  # imports all it needs, while that can be read
    store.task_state(scope).set("key", 1)
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
def attempt(call):
    try:
        return call()
    except StoreError as error:
        return [type(error).__name__, type(error.__cause__).__name__, str(error)]
def use():
    with connect(url) as store:
        state = store.task_state(scope)
        get, set = lambda: state.get("key"), lambda: state.set("key", 2)
        return [attempt(get), attempt(set), attempt(get)]
while True:
    url = hear()
    say(attempt(use))
"""


@pytest.fixture(scope="module")
def unprivileged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], Any]]:
    """Tell what a process without privileges meets when it reads, writes and reads again."""
    warm = tmp_path_factory.mktemp("warm") / "warm.db"
    with Child(UNPRIVILEGED, f"sqlite:///{warm}") as child:

        def use(path: Path) -> Any:
            child.say(f"sqlite:///{path}")
            return child.hear()

        yield use


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="asyncstore-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_file_that_may_only_be_read(public: Path, unprivileged: Callable[[Path], Any]) -> None:
    path = public / "state.db"
    open_and_write(f"sqlite:///{path}")
    public.chmod(0o777)
    path.chmod(0o444)
    before, written, after = unprivileged(path)
    assert before == after == 1
    assert written[:2] == ["StoreReadOnlyError", "OperationalError"]
    assert repr(str(path)) in written[2]
    assert "permissions" in written[2]


def test_a_folder_that_may_only_be_read(public: Path, unprivileged: Callable[[Path], Any]) -> None:
    path = public / "state.db"
    open_and_write(f"sqlite:///{path}")
    path.chmod(0o666)
    kind, cause, text = unprivileged(path)
    assert (kind, cause) == ("StoreReadOnlyError", "OperationalError")  # to read, SQLite needs a file beside it
    assert repr(str(path)) in text
    assert "check the permissions of the file and its folder" in text


def test_no_file_in_a_folder_that_may_only_be_read(public: Path, unprivileged: Callable[[Path], Any]) -> None:
    kind, cause, text = unprivileged(public / "state.db")
    assert (kind, cause) == ("StoreUnavailableError", "OperationalError")
    assert "check that its folder exists and can be written" in text
    assert not (public / "state.db").exists()


def test_a_folder_that_may_not_be_entered(public: Path, unprivileged: Callable[[Path], Any]) -> None:
    path = public / "secret" / "state.db"
    path.parent.mkdir(0o700)
    open_and_write(f"sqlite:///{path}")
    kind, cause, text = unprivileged(path)
    assert (kind, cause) == ("StoreUnavailableError", "OperationalError")
    assert repr(str(path)) in text


# Full.


def test_no_space_for_a_write(url: str, path: Path, connections: Connections) -> None:
    with connect(url) as store:
        state = store.task_state(TASK)
        state.set("key", "old")
        writer = connections.opened[0]
        pages = writer.execute("PRAGMA page_count").fetchone()[0]
        writer.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreFullError) as caught:
            state.set_many({"key": "new", "big": "x" * 60_000})
        check(caught.value, path)
        assert not writer.in_transaction
        assert state.get("key") == "old"
        writer.execute("PRAGMA max_page_count = 100000")
        state.set_many({"key": "new", "big": "x" * 60_000})
        assert state.get("key") == "new"


def allow_four_pages(raw: sqlite3.Connection) -> None:
    raw.execute("PRAGMA max_page_count = 4")


def test_no_space_for_the_tables(
    url: str, path: Path, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(connections, "prepare", allow_four_pages)
        with pytest.raises(StoreFullError) as caught:
            open_and_write(url)
    check(caught.value, path)
    assert connections.all_closed()
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    open_and_write(url)


LIMITED = """
import resource
from asyncstore import StoreError, TaskScope, connect
with connect(sys.argv[1]) as store:
    state = store.task_state(TaskScope("dag", "run", "task"))
    state.set("key", "old")
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    for n in range(100):
        try:
            state.set_many({"key": "new", "big": "x" * 60_000})
        except StoreError as error:
            say([type(error).__name__, type(error.__cause__).__name__, str(error)])
            break
        state.set("key", "old")
    say(state.get("key"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    state.set("key", "after")
    say(state.get("key"))
"""


def test_a_file_that_may_not_grow(url: str, path: Path) -> None:
    with Child(LIMITED, url) as child:
        kind, cause, text = child.hear()
        assert (kind, cause) == ("StoreUnavailableError", "OperationalError")
        assert repr(str(path)) in text
        assert child.hear() == "old"
        assert child.hear() == "after"


# Damaged, or something else.


def test_a_damaged_header(url: str, path: Path) -> None:
    open_and_write(url)
    with path.open("r+b") as file:
        file.write(b"\xff" * 100)
    with pytest.raises(StoreCorruptError, match="is no SQLite database") as caught:
        open_and_write(url)
    check(caught.value, path)


def test_a_damaged_page(url: str, path: Path) -> None:
    with connect(url) as store:
        store.task_state(TASK).set_many({str(n): "x" * 1000 for n in range(200)})
    with path.open("r+b") as file:
        for page in range(40, path.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(b"\xff" * 4096)
    with connect(url) as store:
        with pytest.raises(StoreCorruptError, match="is damaged; restore it from a backup") as caught:
            store.task_state(TASK).get_many([str(n) for n in range(200)])
        check(caught.value, path)
        with pytest.raises(StoreCorruptError):
            store.task_state(TASK).set_many({str(n): "y" for n in range(200)})


def test_a_value_that_something_else_wrote(url: str, path: Path) -> None:
    open_and_write(url)
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("UPDATE asyncstore_task_state SET value = '{oops'")
    with connect(url) as store, pytest.raises(StoreCorruptError, match="write the key anew, or delete it"):
        store.task_state(TASK).get("key")
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("UPDATE asyncstore_task_state SET value = CAST(x'ff' AS TEXT)")
    with connect(url) as store, pytest.raises(DatabaseError) as caught:
        store.task_state(TASK).get("key")
    check(caught.value, path)


@pytest.mark.parametrize("content", [b"hello", b"hello world\n" * 1000], ids=["short", "long"])
def test_a_text_file(url: str, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StoreCorruptError, match="is no SQLite database; choose another file") as caught:
        open_and_write(url)
    check(caught.value, path)
    assert path.read_bytes() == content


def test_a_folder_instead_of_a_file(url: str, path: Path) -> None:
    path.mkdir()
    with pytest.raises(StoreUnavailableError, match="is a folder; name a file in it") as caught:
        open_and_write(url)
    check(caught.value, path, cause=None)
    assert list(path.iterdir()) == []


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "state.db"
    with pytest.raises(StoreUnavailableError, match="check that its folder exists") as caught:
        open_and_write(f"sqlite:///{path}")
    check(caught.value, path)
    assert not path.parent.exists()


def test_a_file_instead_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "state.db"
    with pytest.raises(StoreUnavailableError) as caught:
        open_and_write(f"sqlite:///{path}")
    check(caught.value, path)


def test_an_empty_file_is_a_new_one(url: str, path: Path) -> None:
    path.touch()
    open_and_write(url)
    with connect(url) as store:
        assert store.task_state(TASK).get("key") == 1


# The schema.


def test_a_database_of_somebody_else(url: str, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("CREATE TABLE theirs (a)")
    before = path.read_bytes()
    with pytest.raises(SchemaError, match="none of asyncstore's tables; run `asyncstore db upgrade`") as caught:
        open_and_write(url)
    check(caught.value, path, cause=None)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("revision", "text"),
    [
        ("9999", "has schema 9999, which this release does not know .* a newer release wrote it: upgrade asyncstore"),
        ("0000", f"has schema 0000, this release needs {migrate.HEAD}; run `asyncstore db upgrade`"),
        (None, "has none of asyncstore's tables; run `asyncstore db upgrade`"),
    ],
    ids=["newer", "outdated", "emptied"],
)
def test_a_schema_of_another_release(
    url: str, path: Path, revision: str | None, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_and_write(url)
    for module in (migrate, sqlite_migrate):
        monkeypatch.setattr(module, "known", lambda: ["0000", migrate.HEAD])
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("DELETE FROM asyncstore_alembic_version")
        if revision is not None:
            raw.execute("INSERT INTO asyncstore_alembic_version VALUES (?)", (revision,))
    with pytest.raises(SchemaError, match=text) as caught:
        open_and_write(url)
    check(caught.value, path, cause=None)
    if revision == "9999":
        with pytest.raises(SchemaError, match="newer release"):
            asyncio.run(MetastoreBackend(url).aupgrade())


def test_tables_that_are_gone(url: str, path: Path) -> None:
    open_and_write(url)
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("DROP TABLE asyncstore_task_state")
    with connect(url) as store, pytest.raises(DatabaseError, match="no such table") as caught:
        store.task_state(TASK).get("key")
    check(caught.value, path)


def test_a_sqlite_that_is_too_old(url: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.34.1")
    with pytest.raises(ConfigurationError, match=r"SQLite 3\.35\.0 or later is needed; this Python has 3\.34\.1"):
        open_and_write(url)
    assert not path.exists()


# A file that goes while it is open.


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.filterwarnings("ignore::asyncstore.BlockingCallWarning")
async def test_a_file_that_is_deleted_while_it_is_open(url: str, path: Path, replaced: bool) -> None:
    async with connect(url) as store:
        state = store.task_state(TASK)
        await state.aset("key", 1)
        for suffix in ("", "-wal", "-shm", "-queue"):
            path.with_name(path.name + suffix).rename(path.with_name(f"old{suffix}"))
        if replaced:
            open_and_write(url)
        uses: list[Callable[[], Awaitable[object]]] = [
            lambda: state.aset("key", 2),
            lambda: state.aget("key"),
            lambda: anext(state.awatch("key")),
        ]
        for use in uses:
            with pytest.raises(StoreUnavailableError, match="was deleted or replaced while it was open") as caught:
                await use()
            check(caught.value, path, cause=None)
        with pytest.raises(StoreUnavailableError):
            state.set("key", 2)
    async with connect(url) as store:
        assert await store.task_state(TASK).aget("key") == (1 if replaced else None)


# URLs.


@pytest.mark.parametrize(
    "url",
    [
        "",
        "state.db",
        "/var/lib/state.db",
        "sqlite",
        "sqlite:/state.db",
        "://state.db",
        "mysql://user:secret@host/db",
        "sqlite+pysqlite:///state.db",
        "sqlite://state.db",
        "sqlite://host/state.db",
        "sqlite://user:secret@/state.db",
        "sqlite://host:port/state.db",
        "sqlite:///state.db?mode=ro",
        "sqlite:///state.db?timeout=5&password=secret",
        "sqlite:///state\0.db",
        "sqlite:///state\ud800.db",
        "sqlite+aiosqlite:////" + "x/../" * 5 + "\0",
    ],
)
def test_a_url_that_is_none_of_ours(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigurationError, match=r"url: .*(allowed: sqlite\+aiosqlite:///|String should|valid string)"
    ) as caught:
        connect(url).__enter__()
    assert "secret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 5000)
    with pytest.raises(StoreUnavailableError) as caught:
        open_and_write(f"sqlite:///{path}")
    check(caught.value, path)


def test_a_relative_path_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    backend = MetastoreBackend("sqlite+aiosqlite:///state.db")
    monkeypatch.chdir(tmp_path / "elsewhere")
    backend.set(TASK, "key", "1")
    assert backend.get(TASK, "key") == "1"
    backend.run_blocking(backend.aclose)
    assert (tmp_path / "state.db").exists()
    assert backend.path == tmp_path / "state.db"


def test_a_working_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with pytest.raises(ConfigurationError, match="no path of a file"):
        MetastoreBackend("sqlite+aiosqlite:///state.db")
    monkeypatch.chdir(tmp_path)  # else the patch cannot be undone


@pytest.mark.parametrize("name", ["100%.db", "a b#c?d.db", "ünïcödé 🦆.db", "file:x.db", "it's.db", "%20.db"])
def test_any_name_of_a_file(name: str, tmp_path: Path) -> None:
    backend = MetastoreBackend(f"sqlite+aiosqlite:///{tmp_path}/{quote(name)}")
    backend.set(TASK, "key", "1")
    assert backend.get(TASK, "key") == "1"
    assert asyncio.run(backend.arevision()) == migrate.HEAD
    backend.run_blocking(backend.aclose)
    assert backend.path == tmp_path / name
    assert (tmp_path / name).exists()


def test_looking_at_the_revision_makes_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "state.db", tmp_path / "missing" / "state.db"):
        assert asyncio.run(MetastoreBackend(f"sqlite:///{path}").arevision()) is None
    assert list(tmp_path.iterdir()) == []


# Nothing of the driver's escapes from any operation.

OPERATIONS: dict[str, Callable[[Store], Awaitable[object]]] = {
    "aget": lambda s: s.task_state(TASK).aget("key"),
    "aget_entry": lambda s: s.task_state(TASK).aget_entry("key"),
    "aget_many": lambda s: s.task_state(TASK).aget_many(["key"]),
    "akeys": lambda s: s.task_state(TASK).akeys(),
    "awatch": lambda s: anext(s.task_state(TASK).awatch("key")),
    "aset": lambda s: s.task_state(TASK).aset("key", 1),
    "aset_many": lambda s: s.task_state(TASK).aset_many({"key": 1}),
    "aupdate": lambda s: s.task_state(TASK).aupdate("key", lambda _: 1),
    "aadvance": lambda s: s.task_state(TASK).aadvance("key", 9),
    "adelete": lambda s: s.task_state(TASK).adelete("key"),
    "aclear": lambda s: s.task_state(TASK).aclear(),
    "asset aget": lambda s: s.asset_state[ORDERS].aget("key"),
    "asset aset": lambda s: s.asset_state[ORDERS].aset("key", 1),
    "asset aclear": lambda s: s.asset_state[AssetScope(name="orders")].aclear(),
    "aregister": lambda s: s.aregister(Asset("new")),
    "adeactivate": lambda s: s.adeactivate(ORDERS),
    "aactivate": lambda s: s.aactivate(ORDERS),
    "adelete_asset": lambda s: s.adelete_asset(ORDERS),
    "asweep_assets": lambda s: s.asweep_assets(),
    "acleanup": lambda s: s.acleanup(),
    "acleanup dry": lambda s: s.acleanup(dry_run=True),
    "adelete_run": lambda s: s.adelete_run("dag", "run"),
    "aclaim_watcher": lambda s: s.aclaim_watcher(ORDERS, "watcher", owner="me"),
    "alist_watchers": lambda s: s.alist_watchers(),
    "events": lambda s: s.events().alist(),
    "task_context": lambda s: s.task_context(TASK, inlets=[ORDERS]).__aenter__(),
}

FAILURES: dict[str, tuple[type[sqlite3.Error], type[StoreError]]] = {
    "SQLITE_IOERR_FSYNC": (sqlite3.OperationalError, StoreUnavailableError),
    "SQLITE_CORRUPT_VTAB": (sqlite3.DatabaseError, StoreCorruptError),
    "SQLITE_READONLY_DIRECTORY": (sqlite3.OperationalError, StoreReadOnlyError),
    "SQLITE_READONLY_DBMOVED": (sqlite3.OperationalError, StoreUnavailableError),
    "SQLITE_BUSY_SNAPSHOT": (sqlite3.OperationalError, StoreBusyError),
    "SQLITE_ERROR": (sqlite3.OperationalError, DatabaseError),
    "SQLITE_CONSTRAINT_UNIQUE": (sqlite3.IntegrityError, DatabaseError),
    "SQLITE_MISUSE": (sqlite3.ProgrammingError, DatabaseError),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_no_error_of_the_driver_escapes(failure: str, url: str, path: Path, connections: Connections) -> None:
    kind, expected = FAILURES[failure]

    def fail(sql: str) -> None:
        if sql.startswith(("SELECT", "INSERT", "UPDATE", "DELETE")):
            error = kind("told so")
            error.sqlite_errorname = failure
            raise error

    settings = Settings(database=DatabaseSettings(lock_timeout=0.01))
    async with connect(url, settings=settings) as store:
        await store.task_state(TASK).aset("key", 1)
        await store.asset_state[ORDERS].aset("key", 1)
        for name, operation in OPERATIONS.items():
            for raw in connections.opened:
                raw.before = fail
            with pytest.raises(expected) as caught:
                await operation(store)
            assert type(caught.value) is expected, name
            check(caught.value, path, cause=kind)
            assert not connections.in_transaction(), name
            for raw in connections.opened:
                raw.before = None
            assert await store.task_state(TASK).aget("key") == 1, name


async def test_the_error_of_a_watchers_report_may_be_no_text(url: str) -> None:
    async with connect(url) as store:
        watcher = await store.aclaim_watcher(ORDERS, "watcher", owner="me")
        await watcher.areport(WatcherState.BACKING_OFF, error="cannot open 'caf\udce9'")
        (record,) = await store.alist_watchers()
        assert record.last_error == "cannot open 'caf\\udce9'"


async def test_numbers_beyond_what_sqlite_counts(url: str) -> None:
    async with connect(url) as store:
        assert await store.events(after=2**70).alist(limit=2**70) == []
        with pytest.raises(ValueError, match="64-bit"):
            AssetScope(2**63)


# Closed.


async def test_after_closing(url: str, path: Path, connections: Connections) -> None:
    async with connect(url) as store:
        state, orders, backend = store.task_state(TASK), store.asset_state[ORDERS], store.backend
        await state.aset("key", 1)
    for use in (state.aget("key"), state.aset("key", 1), orders.aget("key"), backend.aget(TASK, "key")):
        with pytest.raises(StoreClosedError) as caught:
            await use
        check(caught.value, path, cause=None)
    with pytest.raises(StoreClosedError, match="async with connect"):
        store.task_state(TASK)
    assert connections.all_closed()
    assert isinstance(backend, MetastoreBackend)
    await backend.aclose()
    async with backend:  # somebody who opens it means it
        assert await state.aget("key") == 1
    assert connections.all_closed()


def test_a_backend_that_nobody_closed_is_closed_with_the_last_reference(
    url: str, path: Path, connections: Connections
) -> None:
    backend = MetastoreBackend(url)
    backend.set(TASK, "key", "1")
    asyncio.run(backend.aset(TASK, "key", "2"))
    threads = [each for each in threading.enumerate() if each.name in {"asyncstore writer", "asyncstore reader"}]
    assert threads
    del backend
    until = time.monotonic() + PATIENCE
    while not connections.all_closed() and time.monotonic() < until:
        gc.collect()  # the thread that answered may be on its way out of the last operation still
    assert connections.all_closed()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert os.listdir(path.parent) == ["state.db"]


async def test_closing_does_not_wait_for_those_who_wait_for_a_lock(url: str, path: Path) -> None:
    async with connect(url) as store:
        await store.task_state(TASK).aset("key", "old")
        with locked(path):
            waiting = [asyncio.create_task(store.task_state(TASK).aset("key", "new")) for _ in range(5)]
            assert await store.task_state(TASK).aget("key") == "old"
            backend = store.backend
            assert isinstance(backend, MetastoreBackend)
            await backend.aclose()
            results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [StoreClosedError] * 5
    async with connect(url) as store:
        assert await store.task_state(TASK).aget("key") == "old"


def test_after_closing_from_sync_code(url: str, connections: Connections) -> None:
    with connect(url) as store:
        state = store.task_state(TASK)
        state.set("key", 1)
    with pytest.raises(StoreClosedError):
        state.get("key")
    assert connections.all_closed()
    assert os.listdir(Path(url.removeprefix("sqlite+aiosqlite:///")).parent) == ["state.db"]  # SQLite has tidied up
