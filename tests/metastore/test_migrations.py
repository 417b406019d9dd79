"""The schema: what the migrations make of it, in one transaction, and where SQLAlchemy is imported."""

from __future__ import annotations

import ast
import asyncio
import re
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection as EngineConnection
from sqlalchemy import create_engine

import asyncstore
from asyncstore import Asset, MetastoreBackend, SchemaError, StoreBusyError, connect
from asyncstore.backends.metastore import migrate, schema
from asyncstore.backends.metastore.sqlite import migrate as sqlite_migrate

from .support import TASK, Child, Connection, Connections, locked

ROOT = Path(asyncstore.__file__).parent
VERSIONS = ROOT / "backends" / "metastore" / "migrations" / "versions"
Schema = list[tuple[str, ...]]


def described(path: Path) -> Schema:
    with closing(sqlite3.connect(path)) as raw:
        rows = raw.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name").fetchall()
    return [tuple(" ".join(str(part).split()) for part in row) for row in rows]


@contextmanager
def migrating(path: Path) -> Generator[EngineConnection]:
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as raw,
        sqlite_migrate.migrating(raw, sqlite_migrate.Patience(str(path), 1)) as connection,
    ):
        yield connection


def test_head_is_the_newest_migration() -> None:
    revisions = sorted(re.findall(r"^(\d{4})_\w+$", each.stem)[0] for each in VERSIONS.glob("0*.py"))
    assert revisions[-1] == migrate.HEAD
    assert revisions == [f"{number:04}" for number in range(1, len(revisions) + 1)]


def test_each_migration_follows_the_one_before() -> None:
    before: str | None = None
    for file in sorted(VERSIONS.glob("0*.py")):
        names = {
            target.id: ast.literal_eval(node.value)
            for node in ast.parse(file.read_text()).body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name) and target.id in {"revision", "down_revision"}
        }
        assert names == {"revision": file.stem[:4], "down_revision": before}
        before = file.stem[:4]


def here(_: object, name: str | None, *rest: object) -> bool:
    return name != "ix_asyncstore_task_state_expires_hour"  # on PostgreSQL only, which autogenerate does not see


def test_the_migrations_make_what_the_schema_says(url: str, path: Path) -> None:
    with connect(url):
        pass
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                "version_table": schema.VERSION_TABLE,
                "include_object": here,
            },
        )
        assert compare_metadata(context, schema.metadata) == []
    engine.dispose()


def test_the_migrations_make_every_detail_of_the_schema(url: str, path: Path, tmp_path: Path) -> None:
    """Hold what autogenerate does not compare: WITHOUT ROWID, AUTOINCREMENT, ON DELETE CASCADE, partial indices."""
    with connect(url):
        pass
    direct = tmp_path / "direct.db"
    engine = create_engine(f"sqlite:///{direct}")
    schema.metadata.create_all(engine)
    engine.dispose()

    def unnamed(found: Schema) -> dict[str, list[str]]:
        # In any order, and whatever the constraints are called.
        return {
            row[1]: sorted(re.sub(r"CONSTRAINT \S+ ", "", row[3]).replace('"', "").split(", "))
            for row in found
            if schema.VERSION_TABLE not in row[1] and not row[1].startswith("sqlite_")
        }

    assert unnamed(described(path)) == unnamed(described(direct))


def test_down_and_up_again(url: str, path: Path) -> None:
    with connect(url) as store:
        store.task_state(TASK).set("key", 1)
    made = described(path)
    with migrating(path) as connection:
        migrate.move(connection, "base", down=True)
    left = [name for _, name, _, _ in described(path) if name.startswith(schema.PREFIX) and "index" not in name]
    assert left == [schema.VERSION_TABLE]
    with pytest.raises(SchemaError, match="run `asyncstore db upgrade`"):
        connect(url).__enter__()
    assert asyncio.run(MetastoreBackend(url).aupgrade()) == (None, migrate.HEAD)
    assert described(path) == made
    with connect(url) as store:
        assert store.task_state(TASK).get("key") is None
        store.task_state(TASK).set("key", 1)


def test_upgrading_the_users_own_database(url: str, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("CREATE TABLE theirs (a)")
        raw.execute("INSERT INTO theirs VALUES (1)")
    backend = MetastoreBackend(url)
    assert asyncio.run(backend.arevision()) is None
    assert asyncio.run(backend.aupgrade()) == (None, migrate.HEAD)
    assert asyncio.run(backend.aupgrade()) == (migrate.HEAD, migrate.HEAD)
    assert asyncio.run(backend.arevision()) == migrate.HEAD
    with connect(url) as store:
        store.task_state(TASK).set("key", 1)
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("SELECT a FROM theirs").fetchall() == [(1,)]
        tables = {name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert all(name.startswith((schema.PREFIX, "sqlite_")) for name in tables - {"theirs"})


def test_the_tables_are_made_in_one_transaction(url: str, connections: Connections) -> None:
    with connect(url):
        pass
    changes = [each.split()[0] for each in connections.statements]
    begin, commit = changes.index("BEGIN"), changes.index("COMMIT")
    assert connections.statements[begin] == "BEGIN IMMEDIATE"
    assert changes.count("BEGIN") == changes.count("COMMIT") == 1
    assert "ROLLBACK" not in changes
    assert {place for place, verb in enumerate(changes) if verb in {"CREATE", "INSERT"}} <= set(range(begin, commit))


@pytest.mark.parametrize("last", ["CREATE TABLE asyncstore_event_key", "INSERT INTO asyncstore_alembic_version"])
def test_what_fails_half_way_leaves_nothing(
    url: str, path: Path, connections: Connections, last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(raw: sqlite3.Connection) -> None:
        def authorize(action: int, *about: str | None) -> int:
            table = last.split()[-1]
            making = action == sqlite3.SQLITE_CREATE_TABLE if last.startswith("CREATE") else action == 18
            return sqlite3.SQLITE_DENY if making and about[0] == table else sqlite3.SQLITE_OK

        raw.set_authorizer(authorize)

    with monkeypatch.context() as patch:
        patch.setattr(connections, "prepare", fail)
        with pytest.raises(asyncstore.DatabaseError, match="not authorized") as caught:
            connect(url).__enter__()
    assert isinstance(caught.value.__cause__, sqlite3.DatabaseError)
    assert described(path) == []
    assert connections.all_closed()
    with connect(url) as store:
        store.task_state(TASK).set("key", 1)


def test_somebody_elses_tables_that_appear_meanwhile(url: str, path: Path, connections: Connections) -> None:
    def intrude(sql: str) -> None:
        if sql.startswith("PRAGMA journal_mode"):
            with closing(sqlite3.connect(path, isolation_level=None)) as raw:
                raw.execute("CREATE TABLE theirs (a)")

    def watch(raw: Connection) -> None:
        raw.before = intrude

    connections.prepare = watch  # type: ignore[method-assign]
    with pytest.raises(SchemaError, match="run `asyncstore db upgrade`"):
        connect(url).__enter__()
    assert [name for _, name, _, _ in described(path)] == ["theirs"]


def test_rows_go_with_what_they_hang_on(url: str, path: Path) -> None:
    with connect(url) as store:
        orders = Asset("orders")
        store.asset_state[orders].set("key", 1)
        store.task_state(TASK).set("key", 1)
        store.delete_asset(orders)
        assert store.delete_run("dag", "run") == 1
    with closing(sqlite3.connect(path)) as raw:
        for table in ("asset", "asset_state", "task_instance", "task_state"):
            assert raw.execute(f"SELECT count(*) FROM asyncstore_{table}").fetchone() == (0,)


def test_a_connection_still_holds_to_foreign_keys_after_it_made_the_tables(url: str, connections: Connections) -> None:
    with connect(url):
        assert [raw.execute("PRAGMA foreign_keys").fetchone() for raw in connections.opened] == [(1,), (1,)]


def test_an_upgrade_waits_for_the_lock_no_longer_than_told(url: str, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute("CREATE TABLE theirs (a)")
    with locked(path), pytest.raises(StoreBusyError):
        asyncio.run(MetastoreBackend(url, lock_timeout=0.05).aupgrade())
    assert asyncio.run(MetastoreBackend(url).aupgrade()) == (None, migrate.HEAD)


# Where SQLAlchemy is imported.


METASTORE = ROOT / "backends" / "metastore"
TABLES = ROOT.parent / "triggers" / "sources" / "table"


def test_only_the_metastore_and_watchers_of_tables_name_sqlalchemy() -> None:
    for package in (ROOT, ROOT.parent / "triggers"):
        for file in package.rglob("*.py"):
            # Whoever watches a table of somebody else's asks its database himself.
            if any(file.is_relative_to(each) for each in (METASTORE, TABLES)):
                continue
            for node in ast.walk(ast.parse(file.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                roots = {name.partition(".")[0] for name in names}
                assert not roots & {"sqlalchemy", "alembic", "aiosqlite", "sqlite3"}, file


CUSTOM = """
import asyncio
from asyncstore import Asset, BaseStoreBackend, MemoryBackend, TaskScope, connect

class Own(BaseStoreBackend):
    def __init__(self): self.kept = {}
    async def aget(self, scope, key, *, session=None): return self.kept.get((scope, key))
    async def aset(self, scope, key, value, *, expires_at=None, session=None): self.kept[scope, key] = value
    async def adelete(self, scope, key, *, session=None): self.kept.pop((scope, key), None)
    async def aclear(self, scope, *, all_map_indices=False, session=None): self.kept.clear()

async def use(backend):
    async with connect(backend=backend) as store:
        await store.task_state(TaskScope("dag", "run", "task")).aset("key", 1)
        return await store.asset_state[Asset("orders")].aget("key", default="none")

found = [asyncio.run(use(Own())), asyncio.run(use(MemoryBackend()))]
import triggers
say([found, sorted({name.partition(".")[0] for name in sys.modules} & {"sqlalchemy", "alembic", "aiosqlite"})])
"""


def test_a_store_on_another_backend_loads_no_sqlalchemy() -> None:
    with Child(CUSTOM) as child:
        assert child.hear() == [["none", "none"], []]
