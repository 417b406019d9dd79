"""What is told of a table, on both databases."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from triggers.testing import run_watcher

from .support import Database, PostgresDatabase, SqliteFile, ids, in_chunks, told

pytestmark = pytest.mark.anyio


async def test_each_row_is_told_once_in_order_and_later_ones_when_they_come(database: Database) -> None:
    database.make()
    database.insert(3, 1, 2)
    async with run_watcher(database.trigger(interval=60.0)) as watching:
        await told(watching, 3)
        database.insert(5, 4)
        await told(watching, 5)
        await watching.restart()
        database.insert(6)
        await told(watching, 6)
        assert watching.recording.plain_writes == []
        kept = (await watching.state())["table/watermark"]
    assert ids(watching) == [1, 2, 3, 4, 5, 6]
    assert (kept["row"], kept["columns"]) == ([6], ["id"])
    assert {event.key for event in watching.events} == {None}


async def test_what_is_committed_late_is_told_within_the_window_and_not_behind_it(database: Database) -> None:
    database.make()
    database.insert(100, 110)
    async with run_watcher(database.trigger(overlap=50, interval=60.0)) as watching:
        await told(watching, 2)
        database.insert(61, 59)  # took their numbers early and are committed now
        await told(watching, 3)
        await watching.restart()
        database.insert(62, 58, 111)
        await told(watching, 5)
        await watching.restart()
        database.insert(112)
        await told(watching, 6)
    assert ids(watching) == [100, 110, 61, 62, 111, 112]


@pytest.mark.parametrize("overlap", [0, None])
async def test_many_rows_of_one_value_are_neither_lost_nor_told_again(database: Database, overlap: int | None) -> None:
    database.make()
    database.insert(*range(10, 35))
    trigger = database.trigger(column="at", batch=10, interval=60.0, overlap=overlap)
    async with run_watcher(trigger) as watching:
        await told(watching, 25)
        database.insert(*range(1, 6))  # of the same moment, behind those of larger keys
        await told(watching, 30)
        await watching.restart()
        database.insert(99, at="2026-01-01 00:00:01")
        await told(watching, 31)
    assert sorted(ids(watching)) == [*range(1, 6), *range(10, 35), 99]


async def test_an_update_that_moves_the_column_is_a_new_version(database: Database) -> None:
    database.make()
    database.insert(1, 2)
    async with run_watcher(database.trigger(column="at", interval=60.0)) as watching:
        await told(watching, 2)
        database.run("UPDATE orders SET what = 'unseen' WHERE id = 2")
        database.run("UPDATE orders SET what = 'new', at = '2026-01-01 00:00:30' WHERE id = 1")
        await told(watching, 3)
    assert watching.payloads[-1]["what"] == "new"


async def test_moments_in_the_forms_that_sqlite_keeps_are_found_again(sqlite: SqliteFile) -> None:
    # Bound as a datetime, `2026-01-01 00:00:00` would be sought as `...:00.000000`, and never found.
    sqlite.make()
    moments = ["2026-01-01 00:00:00", "2026-01-01T00:00:00", "2026-01-01 00:00:00.5", "2026-01-01T00:00:01Z", "gone by"]
    for number, moment in enumerate(moments):
        sqlite.insert(2 * number, 2 * number + 1, at=moment)
    async with run_watcher(sqlite.trigger(column="at", batch=1, interval=60.0)) as watching:
        await told(watching, 10)
        await watching.restart()
        sqlite.insert(20, at="gone by then")
        await told(watching, 11)
    assert sorted(ids(watching)) == [*range(10), 20]


async def test_a_text_column_is_compared_by_the_database(database: Database) -> None:
    database.run("CREATE TABLE orders (name text PRIMARY KEY, id integer)")

    def insert(*names: str) -> None:
        database.run("INSERT INTO orders VALUES " + ", ".join(f"('{name}', {len(name)})" for name in names))

    insert("B", "a", "ä", "Z")
    async with run_watcher(database.trigger(column="name", batch=1, interval=60.0)) as watching:
        await told(watching, 4)
        for number in range(5):
            insert(f"å{number}", f"å{number}a")
            await told(watching, 6 + 2 * number)
            await watching.restart()
    names = [payload["name"] for payload in watching.payloads]
    assert len(set(names)) == len(names) == 14
    assert names == [row[0] for row in database.run("SELECT name FROM orders ORDER BY name")]


async def test_begin_at_a_value_and_never_below_it(database: Database) -> None:
    database.make()
    database.insert(*range(1, 9))
    async with run_watcher(database.trigger(start="5", interval=60.0)) as watching:
        await told(watching, 4)
        await watching.restart()
        database.insert(9)
        await told(watching, 5)
    assert ids(watching) == [5, 6, 7, 8, 9]


@pytest.mark.parametrize("start", ["2026-01-01T00:00:30+00:00", "2026-01-01 00:00:30"])
async def test_begin_at_a_moment(postgresql: PostgresDatabase, start: str) -> None:
    for kind in ("timestamp", "timestamptz"):
        postgresql.run("DROP TABLE IF EXISTS orders")
        postgresql.run(f"CREATE TABLE orders (id int PRIMARY KEY, at {kind}, what text)")
        postgresql.insert(1, at="2026-01-01 00:00:29Z")
        postgresql.insert(2, at="2026-01-01 00:00:30Z")
        async with run_watcher(postgresql.trigger(column="at", start=start, once=True)) as watching:
            await watching.wait_done()
        assert ids(watching) == [2]


async def test_new_only_remembers_what_was_there_and_tells_what_comes_late(database: Database) -> None:
    database.make()
    database.insert(10, 20, 30)
    async with run_watcher(database.trigger(new_only=True, batch=2, interval=60.0)) as watching:
        while "table/watermark" not in await watching.state():
            await watching.recording.changed()
        await watching.restart()
        database.insert(15, 31)
        await told(watching, 2)
        await watching.restart()
        database.insert(32)
        await told(watching, 3)
    assert ids(watching) == [31, 15, 32]


async def test_new_only_of_an_empty_table(database: Database) -> None:
    database.make()
    async with run_watcher(database.trigger(new_only=True, once=True)) as watching:
        await watching.wait_done()
        database.insert(1, 2)
        await watching.restart()
        await watching.wait_done()
    assert ids(watching) == [1, 2]


async def test_once_ends_and_a_second_run_finds_late_rows(database: Database) -> None:
    database.make()
    database.insert(*range(10, 20))
    async with run_watcher(database.trigger(once=True, batch=3)) as watching:
        await watching.wait_done()
        database.insert(5, 25)
        await watching.restart()
        await watching.wait_done()
        await watching.restart()
        await watching.wait_done()
    assert ids(watching) == [*range(10, 20), 25, 5]


async def test_a_burst_does_not_fill_the_window(database: Database) -> None:
    database.make()
    database.insert(1)
    async with run_watcher(database.trigger(overlap=10, interval=60.0, batch=500)) as watching:
        await told(watching, 1)
        for chunk in in_chunks(range(2, 12_002), 4_000):
            database.insert(*chunk)
        await told(watching, 12_001)
        database.insert(11_995 + 10_000)
        await told(watching, 12_002)
        state = await watching.state()
    assert ids(watching) == [*range(1, 12_002), 21_995]
    # 32 marks in each: those that a pass may add before the next one begins, and not one for each row.
    assert len([key for key in state if key.startswith("table/window/")]) < 350


async def test_the_keys_of_the_window_are_used_again(database: Database) -> None:
    database.make()
    async with run_watcher(database.trigger(overlap=40, interval=60.0)) as watching:
        for number in range(0, 1000, 100):
            database.insert(*range(number, number + 100))
            await told(watching, number + 100)
            if number % 300 == 0:
                await watching.restart()
        state = await watching.state()
    assert ids(watching) == [*range(1000)]
    assert len([key for key in state if key.startswith("table/window/")]) < 20


async def test_the_columns_of_the_payload_the_key_and_the_condition(database: Database) -> None:
    database.run('CREATE TABLE "Order ""of"" things" ("select" int NOT NULL, "a%b:c" int, c0 int, c1 int)')
    database.run('INSERT INTO "Order ""of"" things" VALUES (1, 1, 9, 0), (1, 2, 8, 0), (2, 1, 7, 0), (2, 2, 6, 1)')
    database.name = 'Order "of" things'
    options: dict[str, Any] = {
        "column": "select",
        "key": ["a%b:c"],
        "columns": ["c0"],
        "where": "c1 = 0 AND 'a:b%' <> ':x' -- nothing else",
    }
    async with run_watcher(database.trigger(once=True, batch=1, **options)) as watching:
        await watching.wait_done()
    assert watching.payloads == [{"c0": 9}, {"c0": 8}, {"c0": 7}]


async def test_nulls_are_said_once_and_passed_over(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    database.make()
    database.insert(1)
    database.run("INSERT INTO orders (id) VALUES (2), (3)")
    with caplog.at_level(logging.WARNING, "triggers"):
        async with run_watcher(database.trigger(column="at", interval=60.0)) as watching:
            await told(watching, 1)
            database.insert(4)
            await told(watching, 2)
    assert ids(watching) == [1, 4]
    assert [record.message for record in caplog.records] == ["table orders: rows in which at is NULL are passed over"]


async def test_a_table_in_a_schema_a_view_and_a_table_of_the_store_beside(database: Database) -> None:
    if database.kind == "postgresql":
        database.run("CREATE SCHEMA sales")
        database.run("CREATE TABLE sales.orders (id int PRIMARY KEY)")
        database.run("INSERT INTO sales.orders VALUES (1)")
        database.run("CREATE VIEW seen AS SELECT id FROM sales.orders")
        names = ["sales.orders", "seen"]
    else:
        database.run("CREATE TABLE orders (id integer PRIMARY KEY)")
        database.run("INSERT INTO orders VALUES (1)")
        database.run("CREATE VIEW seen AS SELECT id FROM orders")
        names = ["main.orders", "seen"]
    for name in names:
        database.name = name
        async with run_watcher(database.trigger(column="id", key=["id"], once=True)) as watching:
            await watching.wait_done()
        assert ids(watching) == [1]
