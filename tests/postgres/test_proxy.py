"""The proxy, tested with a bare driver."""

from __future__ import annotations

import struct

import anyio
import pytest
from anyio.to_thread import run_sync

from tests.postgres.client import asyncpg, connect
from tests.postgres.databases import Databases
from tests.postgres.fixtures import MakeServer
from tests.postgres.proxy import Proxy
from tests.postgres.support import LOST, connected, insert, make_table, rows
from tests.postgres.traffic import How, Side

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("how", ["rst", "fin"])
async def test_a_cut_ends_all_connections_and_new_ones_pass(how: How, proxy: Proxy, database_url: str) -> None:
    url = proxy.through(database_url)
    async with connected(url) as first, connected(url) as second:
        assert (proxy.connections, proxy.cut(how), proxy.connections) == (2, 2, 0)
        for connection in (first, second):
            with pytest.raises(LOST):
                await connection.fetchval("SELECT 1")
    async with connected(url) as connection:
        assert await connection.fetchval("SELECT 1") == 1


async def test_a_torn_network_leaves_the_session_on_the_server(
    proxy: Proxy, postgres: Databases, database_url: str
) -> None:
    await make_table(database_url)
    database = database_url.rpartition("/")[2]
    async with connected(proxy.through(database_url)) as connection:
        await connection.execute("BEGIN; LOCK TABLE kept")
        proxy.cut(keep_server=True)
        with pytest.raises(LOST):
            await connection.fetchval("SELECT 1")
        assert "LOCK TABLE kept" in postgres.connections(database)[0]
        async with connected(database_url) as other:
            with pytest.raises(asyncpg.LockNotAvailableError):
                await other.execute("BEGIN; LOCK TABLE kept NOWAIT")


async def test_new_connections_are_refused_until_they_are_accepted(proxy: Proxy, database_url: str) -> None:
    url = proxy.through(database_url)
    async with connected(url) as connection:
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await connect(url)
        assert await connection.fetchval("SELECT 1") == 1
        proxy.accept()
        async with connected(url) as other:
            assert await other.fetchval("SELECT 1") == 1


@pytest.mark.parametrize("side", ["client", "server"])
async def test_what_is_stalled_arrives_later(side: Side, proxy: Proxy, database_url: str) -> None:
    answers: list[object] = []

    async def ask() -> None:
        answers.append(await connection.fetchval("SELECT 1"))

    async with connected(proxy.through(database_url)) as connection:
        proxy.stall(side)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await run_sync(proxy.wait_held, side)
            assert answers == []
            proxy.resume()
        assert answers == [1]


async def test_a_connection_is_cut_while_it_is_stalled(proxy: Proxy, database_url: str) -> None:
    async with connected(proxy.through(database_url)) as connection, anyio.create_task_group() as tasks:
        proxy.stall("server")

        async def ask() -> None:
            with pytest.raises(LOST):
                await connection.fetchval("SELECT 1")

        tasks.start_soon(ask)
        await run_sync(proxy.wait_held, "server")
        proxy.cut()


async def test_a_swallowed_answer_to_a_commit_leaves_the_row(proxy: Proxy, database_url: str) -> None:
    await make_table(database_url)
    async with connected(proxy.through(database_url)) as connection:
        await insert(connection, 1)
        rule = proxy.swallow_answer("Q", containing=b"COMMIT")
        with pytest.raises(LOST):
            await insert(connection, 2)
        assert rule.fired
    assert await rows(database_url) == [1, 2]


async def test_a_swallowed_answer_to_a_prepared_statement_leaves_the_row(proxy: Proxy, database_url: str) -> None:
    await make_table(database_url)
    async with connected(proxy.through(database_url)) as connection:
        forgotten = proxy.swallow_answer("E")
        proxy.clear()
        for row in (1, 2):
            await connection.execute("INSERT INTO kept VALUES ($1)", row)
        rule = proxy.swallow_answer("E", nth=2)
        await connection.execute("INSERT INTO kept VALUES ($1)", 3)
        with pytest.raises(LOST):
            await connection.execute("INSERT INTO kept VALUES ($1)", 4)
        assert (rule.fired, forgotten.fired) == (True, False)
    assert await rows(database_url) == [1, 2, 3, 4]


async def test_nothing_of_a_swallowed_answer_comes_through(proxy: Proxy, database_url: str) -> None:
    settings = f"user\0postgres\0database\0{database_url.rpartition('/')[2]}\0\0".encode()
    query = b"SELECT 1\0"
    async with await anyio.connect_tcp("127.0.0.1", proxy.port) as raw:
        await raw.send(struct.pack("!II", len(settings) + 8, 3 << 16) + settings)
        greeting = b""
        while not greeting.endswith(b"Z\0\0\0\x05I"):
            greeting += await raw.receive()
        proxy.swallow_answer("Q", how="fin")
        await raw.send(b"Q" + struct.pack("!I", len(query) + 4) + query)
        with pytest.raises(anyio.EndOfStream):
            await raw.receive()


async def test_a_commit_that_never_arrives_leaves_no_row(proxy: Proxy, database_url: str) -> None:
    await make_table(database_url)
    rule = proxy.cut_before("Q", containing=b"COMMIT", nth=2, how="fin")
    async with connected(proxy.through(database_url)) as connection:
        await insert(connection, 1)
        with pytest.raises(LOST):
            await insert(connection, 2)
    assert rule.fired
    assert await rows(database_url) == [1]


async def test_a_commit_that_arrives_last_is_still_done(proxy: Proxy, postgres: Databases, database_url: str) -> None:
    await make_table(database_url)
    rule = proxy.cut_after("Q", containing=b"COMMIT")
    async with connected(proxy.through(database_url)) as connection:
        with pytest.raises(LOST):
            await insert(connection, 1)
    assert rule.fired
    await run_sync(postgres.expect_no_connections, database_url.rpartition("/")[2])
    assert await rows(database_url) == [1]


async def test_messages_of_the_server_are_counted_too(proxy: Proxy, database_url: str) -> None:
    async with connected(proxy.through(database_url)) as connection:
        rule = proxy.cut_after("D", nth=3, side="server", how="fin")
        with pytest.raises(LOST):
            await connection.fetch("SELECT * FROM generate_series(1, 5)")
        assert rule.fired


@pytest.mark.parametrize("side", ["client", "server"])
async def test_a_cut_after_bytes_is_within_a_message(side: Side, proxy: Proxy, database_url: str) -> None:
    async with connected(proxy.through(database_url)) as connection:
        rule = proxy.cut_after_bytes(3, side=side)
        with pytest.raises(LOST):
            await connection.execute("SELECT 1")
        await run_sync(rule.wait)


async def test_a_connection_is_cut_as_it_is_made(proxy: Proxy, database_url: str) -> None:
    rule = proxy.cut_before("startup")
    with pytest.raises(LOST):
        await connect(proxy.through(database_url), ssl="prefer")
    assert rule.fired
    async with connected(proxy.through(database_url), ssl="prefer") as connection:
        assert await connection.fetchval("SELECT 1") == 1


async def test_much_data_passes_unchanged(proxy: Proxy, database_url: str) -> None:
    async with connected(proxy.through(database_url)) as connection:
        much = "0123456789" * 300_000
        assert await connection.fetchval("SELECT $1::text", much) == much


async def test_the_proxy_forwards_while_the_loop_is_blocked(proxy: Proxy, postgres: Databases) -> None:
    database = postgres.create_database()
    through = Databases(proxy.url(database))
    assert through.fetch("SELECT 1 AS one")[0]["one"] == 1
    through.close()
    postgres.drop_database(database)


async def test_a_server_that_is_gone_is_refused_by_its_proxy(make_server: MakeServer) -> None:
    server = make_server(start=False)
    async with Proxy("127.0.0.1", server.port) as proxy:
        with pytest.raises(LOST):
            await connect(proxy.url("postgres"))
        server.start()
        async with connected(proxy.url("postgres")) as connection:
            assert await connection.fetchval("SELECT 1") == 1
            server.kill()
            with pytest.raises(LOST):
                await connection.fetchval("SELECT 1")
        await run_sync(proxy.wait_connections, 0)
