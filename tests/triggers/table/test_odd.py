"""Columns, keys and values that are out of the usual, and must hold up nothing."""

from __future__ import annotations

import pytest

from asyncstore import MetastoreBackend, connect
from triggers.testing import memory_store, run_watcher

from .support import Database, PostgresDatabase, SqliteFile, ids, told

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("columns", "rows", "expected"),
    [
        ("id int, b int, PRIMARY KEY (id, b)", "(5, NULL), (5, 1), (5, 2), (6, 1)", [(5, 1), (5, 2), (6, 1)]),
        ("id text PRIMARY KEY, b int", "(NULL, 0), ('a', 1), ('b', 2)", [("a", 1), ("b", 2)]),
    ],
)
async def test_a_primary_key_of_sqlite_may_be_null(
    sqlite: SqliteFile, columns: str, rows: str, expected: list[tuple[object, object]]
) -> None:
    # Nothing is behind NULL: what comes after such a row would not be found again.
    sqlite.run(f"CREATE TABLE orders ({columns})")
    sqlite.run(f"INSERT INTO orders VALUES {rows}")
    async with run_watcher(sqlite.trigger(column="id", batch=1, once=True)) as watching:
        await watching.wait_done()
    assert [tuple(payload.values()) for payload in watching.payloads] == expected


@pytest.mark.parametrize("kind", ["smallint", "integer", "bigint", "numeric(9, 2)", "real", "double precision"])
async def test_a_window_that_is_larger_than_its_column_holds(database: Database, kind: str) -> None:
    database.run(f"CREATE TABLE orders (id {kind} PRIMARY KEY)")
    database.run("INSERT INTO orders VALUES (-3), (2)")
    async with run_watcher(database.trigger(column="id", overlap=1e20, start="-9.5", interval=60.0)) as watching:
        await told(watching, 2)
        database.run("INSERT INTO orders VALUES (-4), (3)")
        await told(watching, 4)
        await watching.restart()
        database.run("INSERT INTO orders VALUES (-5), (-10)")
        await told(watching, 5)
    assert [float(payload["id"]) for payload in watching.payloads][-1] == -5
    assert watching.errors == []


async def test_a_text_that_is_none_holds_up_no_others(sqlite: SqliteFile) -> None:
    sqlite.make()
    sqlite.insert(1, 3)
    sqlite.run("INSERT INTO orders VALUES (2, NULL, CAST(x'61E462' AS text))")
    async with run_watcher(sqlite.trigger(once=True)) as watching:
        await watching.wait_done()
    assert [payload["what"] for payload in watching.payloads] == ["x", "a\ufffdb", "x"]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *[("inet", "10.0.0.1"), ("inet", "10.0.0.1/8"), ("inet", "::1"), ("cidr", "10.0.0.0/8"), ("interval", "1 s")],
        *[
            ("timetz", "10:00+02"),
            ("bytea", "abc"),
            ("macaddr", "08:00:2b:01:02:03"),
            ("boolean", "true"),
            ("oid", "7"),
        ],
    ],
)
async def test_keys_of_odd_types(postgresql: PostgresDatabase, kind: str, value: str) -> None:
    postgresql.run(f"CREATE TABLE orders (k {kind}, id int NOT NULL, PRIMARY KEY (id, k))")
    postgresql.run(f"INSERT INTO orders VALUES ('{value}', 1), ('{value}', 2)")
    async with run_watcher(postgresql.trigger(column="id", key=["k"], batch=1, interval=60.0)) as watching:
        await told(watching, 2)
        await watching.restart()
        postgresql.run(f"INSERT INTO orders VALUES ('{value}', 3)")
        await told(watching, 3)
    assert ids(watching) == [1, 2, 3]


@pytest.mark.parametrize("kind", ["date", "timestamp", "timestamptz"])
@pytest.mark.parametrize(("first", "last"), [("0001-01-01", "9999-12-31 23:59:59.999999"), ("-infinity", "infinity")])
async def test_the_ends_of_the_calendar(
    postgresql: PostgresDatabase, kind: str, first: str, last: str, caplog: pytest.LogCaptureFixture
) -> None:
    # asyncpg has one value for each end of the calendar and what is beyond it.
    zone = "+00" if kind == "timestamptz" and "inf" not in first else ""
    postgresql.run(f"CREATE TABLE orders (id int PRIMARY KEY, at {kind}, what text)")
    postgresql.insert(0, 1, 2, at=first + zone)
    postgresql.insert(3, at="2026-01-01")
    postgresql.insert(4, 5, 6, at=last + zone)
    async with run_watcher(postgresql.trigger(column="at", batch=2, interval=60.0)) as watching:
        await told(watching, 7)
        await watching.restart()
        postgresql.insert(7, 8, 9, at=last + zone)
        await told(watching, 10)
    assert ids(watching) == [*range(10)]
    assert caplog.text == ""


async def test_a_table_of_the_stores_own_database(database: Database) -> None:
    await MetastoreBackend(database.url).aupgrade()
    async with connect(database.url) as store:
        database.make()
        database.insert(1, 2)
        async with run_watcher(database.trigger(interval=60.0), store=store) as watching:
            await told(watching, 2)
            database.insert(3)
            await told(watching, 3)
            await watching.restart()
            database.insert(4)
            await told(watching, 4)
            assert (await watching.state())["table/watermark"]["row"] == [4]
            await watching.stop()
    assert ids(watching) == [1, 2, 3, 4]


async def test_what_is_kept_in_postgresql_is_what_is_kept_in_memory(sqlite: SqliteFile, database_url: str) -> None:
    await MetastoreBackend(database_url).aupgrade()
    kept: list[object] = []
    for run in (memory_store(), connect(database_url)):
        sqlite.run("DROP TABLE IF EXISTS orders")
        sqlite.make()
        sqlite.insert(*range(1, 60), what="\u00e4")
        async with run as store, run_watcher(sqlite.trigger(batch=7, interval=60.0), store=store) as watching:
            await told(watching, 59)
            await watching.restart()
            sqlite.insert(-1, 60)
            await told(watching, 61)
            kept.append((watching.payloads, await watching.state()))
            await watching.stop()
    assert kept[0] == kept[1]
