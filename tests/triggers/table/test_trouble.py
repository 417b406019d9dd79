"""A table that is away, slow, altered, rewound or not as asked for; and secrets, which nothing shows."""

from __future__ import annotations

import json
import logging
import os
import traceback
from typing import Any

import anyio
import pytest

from asyncstore import Asset, ConfigurationError, connect
from tests.postgres.proxy import Proxy
from tests.postgres.server import LOGIN, PASSWORD
from tests.triggers.support import run_to_the_end, until
from triggers import AssetWatcher, TableTrigger
from triggers.sources.table.address import resolve
from triggers.testing import run_watcher

from .support import Database, PostgresDatabase, SqliteFile, ids, told

pytestmark = pytest.mark.anyio


async def test_a_table_that_is_dropped_is_waited_for(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    database.make()
    database.insert(1, 2)
    with caplog.at_level(logging.INFO, "triggers"):
        async with run_watcher(database.trigger(interval=10.0)) as watching:
            await told(watching, 2)
            database.run("ALTER TABLE orders RENAME TO elsewhere")
            while "looking again" not in caplog.text:
                await _pass()
            database.run("ALTER TABLE elsewhere RENAME TO orders")
            database.run("ALTER TABLE orders ADD COLUMN more int")
            database.insert(3)
            await told(watching, 3)
    assert watching.errors == []
    assert watching.payloads[-1]["id"] == 3
    assert "more" in watching.payloads[-1]
    assert "can be read again" in caplog.text


async def _pass(seconds: float = 10.0) -> None:
    await anyio.sleep(seconds)


async def test_a_table_that_is_made_later_and_one_read_by_another_key(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    database.run("CREATE TABLE elsewhere (id int)")
    with caplog.at_level(logging.WARNING, "triggers"):
        async with run_watcher(database.trigger(interval=10.0, column="id")) as watching:
            while "there is no table 'orders'; there is elsewhere" not in caplog.text:
                await _pass()
            database.make()
            database.insert(1)
            await told(watching, 1)
            database.run("DROP TABLE orders")
            database.run("CREATE TABLE orders (id integer, at text, what text, PRIMARY KEY (id, at))")
            while "is now id, at" not in caplog.text:
                await _pass()
    assert watching.errors == []


async def test_a_source_that_is_rewound_is_reported_once_and_not_followed(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    database.make()
    database.insert(*range(1000, 1010))
    with caplog.at_level(logging.WARNING, "triggers"):
        async with run_watcher(database.trigger(overlap=20, interval=60.0)) as watching:
            await told(watching, 10)
            database.run("DELETE FROM orders")
            database.insert(1, 2, 3)
            while "older state was restored" not in caplog.text:
                await _pass()
            await watching.restart()
            database.insert(4, 1010)
            await told(watching, 11)
    assert ids(watching) == [*range(1000, 1011)]
    messages = [record.message for record in caplog.records]
    assert messages[0].startswith("table orders: the largest id is 3, and 1009 was there:")


async def test_another_column_under_the_same_name_is_an_error_that_says_so(database: Database) -> None:
    database.make()
    database.insert(1)
    async with connect("sqlite+aiosqlite:///:memory:") as store:
        for column, failures in (("id", 0), ("at", 1)):
            async with run_watcher(database.trigger(column=column, interval=60.0), store=store) as watching:
                await (watching.wait_failures(1) if failures else told(watching, 1))
    assert "begun by the columns ['id']" in str(watching.errors[0])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"column": "no"}, "no column 'no'; it has id, at, what"),
        ({"column": "what", "overlap": 5}, "overlap must be 0"),
        ({"column": "at", "key": ["no"]}, "no column 'no'"),
        ({"columns": ["no"]}, "no column 'no'"),
        ({"where": "no = 1"}, "no"),
        ({"where": "syntax error here"}, "syntax"),
        ({"start": "soon"}, "'soon' is no value of column 'id', a number"),
    ],
)
async def test_wrong_usage_is_found_by_check(database: Database, options: dict[str, Any], says: str) -> None:
    database.make()
    with pytest.raises(ValueError, match=says) as caught:
        await database.trigger(**options).check()
    assert caught.value.__cause__ is None


async def test_tables_that_cannot_be_watched(database: Database) -> None:
    database.run("CREATE TABLE orders (name text, doc json, made boolean)")
    for options, says in (
        ({}, "say which column of table 'orders' only grows .*; it has name"),
        ({"column": "name"}, "no primary key"),
        ({"column": "made"}, "cannot be a watermark"),
    ):
        with pytest.raises(ValueError, match=says):
            await database.trigger(**options).check()
    database.name = "nothing"
    with pytest.raises(ValueError, match="no table 'nothing'; there is orders"):
        await database.trigger().check()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"interval": 0.0}, "interval"),
        ({"timeout": float("inf")}, "timeout"),
        ({"overlap": -1.0}, "overlap"),
        ({"batch": 0}, "batch"),
        ({"start": 1, "new_only": True}, "not both"),
    ],
)
def test_options_are_refused_at_construction(sqlite: SqliteFile, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        sqlite.trigger(**options)


async def test_a_file_that_is_not_there_is_not_made(sqlite: SqliteFile, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "triggers"):
        async with run_watcher(sqlite.trigger(column="id", interval=10.0)) as watching:
            while "unable to open database file" not in caplog.text:
                await _pass()
            assert not sqlite.path.exists()
            sqlite.make()
            sqlite.insert(1)
            await told(watching, 1)
            replaced = SqliteFile(sqlite.path.with_name("other.db"))
            replaced.make()
            replaced.insert(1, 2)
            os.replace(replaced.path, sqlite.path)
            await told(watching, 2)


class TestInRealTime:
    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    async def test_a_query_that_never_ends_is_given_up(
        self, database: Database, caplog: pytest.LogCaptureFixture
    ) -> None:
        numbers = "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n) SELECT id FROM n WHERE id < 0"
        database.run(f"CREATE VIEW orders AS {numbers}")
        trigger = database.trigger(column="id", key=["id"], interval=0.01, timeout=0.5)
        with caplog.at_level(logging.WARNING, "triggers"):
            async with run_watcher(trigger):
                await until(lambda: "no answer within 0.5 s" in caplog.text)

    async def test_a_server_that_goes_away_and_comes_back(
        self, postgresql: PostgresDatabase, proxy: Proxy, caplog: pytest.LogCaptureFixture
    ) -> None:
        postgresql.make()
        postgresql.insert(1)
        trigger = TableTrigger(proxy.through(postgresql.url), "orders", interval=0.01)
        with caplog.at_level(logging.WARNING, "triggers"):
            async with run_watcher(trigger) as watching:
                await watching.wait_events(1)
                proxy.refuse()
                proxy.cut()
                await until(lambda: "looking again" in caplog.text)
                proxy.accept()
                postgresql.insert(2)
                await watching.wait_events(2)
        assert watching.errors == []

    async def test_a_password_is_shown_nowhere(
        self,
        postgresql: PostgresDatabase,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        postgresql.make()
        postgresql.insert(1)
        postgresql.run(f"GRANT SELECT ON orders TO {LOGIN}")
        good, bad = {"username": LOGIN, "password": PASSWORD}, {"username": LOGIN, "password": "w@ong-/h?rse"}
        monkeypatch.setenv("ASYNCSTORE_CONN_SHOP_DB", json.dumps(good))
        monkeypatch.setenv("ASYNCSTORE_CONN_BAD", json.dumps(bad))
        trigger = TableTrigger(postgresql.url, "orders", connection="shop-db", once=True)
        wrong = TableTrigger(postgresql.url, "orders", connection="bad", once=True, interval=0.01)
        inline = resolve(f"postgresql://{LOGIN}:{PASSWORD}@localhost/shop?sslpassword=hidden-too&ssl=no")
        with caplog.at_level(logging.DEBUG, "triggers"):
            async with connect("sqlite+aiosqlite:///:memory:") as store:
                orders = Asset(uri=trigger.uri, watchers=[AssetWatcher("orders", trigger)])
                assert (await run_to_the_end(store, orders)).payloads[0]["id"] == 1
                async with run_watcher(wrong):
                    await until(lambda: "authentication failed" in caplog.text)
                state = await store.asset_state[orders].aget_many(await store.asset_state[orders].akeys())
                kept = [
                    state,
                    await store.alist_watchers(),
                    trigger.serialize(),
                    repr(trigger),
                    repr(wrong),
                    repr(inline),
                ]
        shown = caplog.text + str(kept) + trigger.uri + str(inline) + inline.uri("orders")
        for secret in (PASSWORD, bad["password"], LOGIN):
            assert secret not in shown.replace(f"user {LOGIN!r}", "").replace(f'user "{LOGIN}"', "")
        assert "hidden-too" not in str(inline) + inline.uri("orders")
        assert inline.hide(f"{PASSWORD} hidden-too") == "*** ***"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://u:se@cret@host/db", "percent-encode"),
        ("nonsense secret", "cannot be read"),
        ("postgresql://u:secret@host:port/db", "cannot be read"),
        ("db2://u:secret@host/db", "known are sqlite, postgresql"),
        ("postgresql+psycopg2://u:secret@host/db", "not asynchronous; write postgresql[+]asyncpg"),
        ("postgresql+secretive://u:secret@host/db", "no driver is known"),
        ("oracle://u:secret@host/db", "needs oracledb, which is not installed: pip install oracledb"),
        ("mysql+asyncmy://u:secret@host/db", "needs asyncmy"),
        ("sqlite://", "in memory"),
        ("sqlite+aiosqlite:///:memory:", "in memory"),
    ],
)
def test_urls_that_are_refused_without_their_secrets(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        TableTrigger(url, "orders")
    assert ":secret" not in "".join(traceback.format_exception(caught.value, chain=True)).replace(url, "")


@pytest.mark.parametrize(
    ("value", "says"),
    [(None, "has no ASYNCSTORE_CONN_SHOP"), ("[]", "a JSON object"), ('{"pasword": "x"}', "'pasword' is refused")],
)
def test_connections_that_are_refused(monkeypatch: pytest.MonkeyPatch, value: str | None, says: str) -> None:
    if value is not None:
        monkeypatch.setenv("ASYNCSTORE_CONN_SHOP", value)
    with pytest.raises((ValueError, ConfigurationError), match=says):
        TableTrigger("postgresql://", "orders", connection="shop")


def test_a_connection_completes_a_url_and_names_the_same_asset(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {"host": "db", "port": 5433, "database": "shop", "username": "u", "password": "p", "query": {"ssl": "no"}}
    monkeypatch.setenv("ASYNCSTORE_CONN_SHOP", json.dumps(parts))
    for url, connection in (("postgresql://", "shop"), ("postgresql+asyncpg://other:x@db:5433/shop", None)):
        assert TableTrigger(url, "a.b c", connection=connection).uri == "postgresql://db:5433/shop?table=a.b%20c"
    assert TableTrigger("postgres://[::1]/shop", "orders").uri == "postgresql://[::1]/shop?table=orders"
