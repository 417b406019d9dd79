"""What the tests of PostgreSQL stand on, tested with a bare driver."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from anyio.to_thread import run_sync
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.postgres import server as server_module
from tests.postgres.client import asyncpg, connect
from tests.postgres.databases import Databases
from tests.postgres.fixtures import MakeServer
from tests.postgres.processes import PATIENCE, account, is_alive, until
from tests.postgres.server import LOGIN, PASSWORD, NoServerError, programs
from tests.postgres.support import LOST, connected, insert, make_table, rows

pytestmark = pytest.mark.anyio


async def test_the_shared_server_answers_and_databases_are_apart(postgres: Databases, database_url: str) -> None:
    other = postgres.url(postgres.create_database("apart"))
    await make_table(database_url)
    await make_table(other)
    async with connected(other) as connection:
        await insert(connection, 1)
    assert (await rows(database_url), await rows(other)) == ([], [1])
    postgres.drop_database("apart")
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await connect(other)


async def test_a_template_is_prepared_once_and_copied(postgres: Databases) -> None:
    prepared: list[str] = []

    def prepare(url: str) -> None:
        prepared.append(url)
        anyio.run(make_table, url)

    names = [await run_sync(postgres.make_template, "tables", prepare) for _ in range(2)]
    assert (len(prepared), len(set(names))) == (1, 1)
    copy = postgres.create_database(template=names[0])
    assert await rows(postgres.url(copy)) == []
    postgres.drop_database(copy)


async def test_an_open_connection_is_told_of_with_its_query(
    postgres: Databases, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.postgres.databases.CLOSING", 0.1)
    database = database_url.rpartition("/")[2]
    async with connected(database_url) as connection:
        await connection.execute("SELECT 'forgotten'")
        with pytest.raises(AssertionError, match=r"idle.*SELECT 'forgotten'"):
            await run_sync(postgres.expect_no_connections, database)
    monkeypatch.undo()
    await run_sync(postgres.expect_no_connections, database)


async def test_a_login_needs_its_password_on_tcp_and_on_the_socket(make_server: MakeServer) -> None:
    server = make_server()
    database = server.create_database(owner=LOGIN)
    for url in (
        server.url(database, user=LOGIN, password=PASSWORD),
        server.socket_url(database, user=LOGIN, password=PASSWORD),
    ):
        async with connected(url) as connection:
            assert await connection.fetchval("SELECT current_user") == LOGIN
            assert await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
            await connection.execute("CREATE TABLE IF NOT EXISTS own (row int)")
        with pytest.raises(asyncpg.InvalidPasswordError):
            await connect(url.replace(PASSWORD, "wrong"))
    async with connected(server.socket_url(database)) as connection:
        assert await connection.fetchval("SELECT current_user") == "postgres"


async def test_sqlalchemy_understands_the_urls(make_server: MakeServer) -> None:
    server = make_server()
    for url in (server.url("postgres"), server.socket_url("postgres", user=LOGIN, password=PASSWORD)):
        engine = create_async_engine(url)
        async with engine.connect() as connection:
            found = await connection.execute(text("SELECT current_user || coalesce(inet_server_addr()::text, '')"))
            assert found.scalar_one() == ("postgres127.0.0.1/32" if "@127" in url else LOGIN)
        await engine.dispose()


@pytest.mark.parametrize("mode", ["fast", "immediate", "kill"])
async def test_what_is_committed_outlives_every_end(mode: str, make_server: MakeServer) -> None:
    server = make_server(fsync=True)
    url = server.url(server.create_database())
    await make_table(url)
    async with connected(url) as connection:
        await insert(connection, 1)
        first = server.pid
        if mode == "kill":
            server.kill()
            assert not server.is_running()
            server.start()
        else:
            server.restart("fast" if mode == "fast" else "immediate")
        with pytest.raises(LOST):
            await connection.fetchval("SELECT 1")
    assert server.pid != first
    assert await rows(url) == [1]


async def test_a_stopped_server_refuses_connections(make_server: MakeServer) -> None:
    server = make_server()
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        await connect(server.url("postgres"))


async def test_a_frozen_server_answers_when_it_is_thawed(make_server: MakeServer) -> None:
    server = make_server()
    async with connected(server.url("postgres")) as connection:
        server.freeze()
        with pytest.raises(TimeoutError):
            await connection.fetchval("SELECT 1", timeout=0.1)
        server.thaw()
        assert await connection.fetchval("SELECT 2") == 2
        server.freeze()
    server.stop()
    assert not server.is_running()


async def test_settings_are_followed_and_changed(make_server: MakeServer) -> None:
    server = make_server(settings={"timezone": "Asia/Kathmandu", "log_statement": "all"})
    async with connected(server.url("postgres")) as connection:
        assert await connection.fetchval("SHOW timezone") == "Asia/Kathmandu"
        await connection.execute("SELECT 'in the log'")
    assert "SELECT 'in the log'" in server.log_text()
    server.configure(timezone="UTC", application_name="it's")
    async with connected(server.url("postgres")) as connection:
        assert await connection.fetchval("SHOW timezone") == "UTC"
        assert await connection.fetchval("SHOW application_name") == "it's"


async def test_a_promoted_standby_has_what_was_acknowledged(make_server: MakeServer) -> None:
    server = make_server()
    database = server.create_database()
    await make_table(server.url(database))
    standby = server.make_standby()
    async with connected(server.url(database)) as connection:
        for row in range(20):
            await insert(connection, row)
        server.kill()
    async with connected(standby.url(database)) as connection:
        assert await connection.fetchval("SELECT pg_is_in_recovery()")
    standby.promote()
    assert await rows(standby.url(database)) == list(range(20))
    async with connected(standby.url(database)) as connection:
        await insert(connection, 20)


async def test_a_commit_waits_for_the_standby(make_server: MakeServer) -> None:
    server = make_server()
    url = server.url(server.create_database())
    await make_table(url)
    standby = server.make_standby()
    async with connected(url) as connection:
        standby.freeze()
        with pytest.raises(TimeoutError):
            await connection.execute("INSERT INTO kept VALUES (1)", timeout=0.2)
        standby.thaw()


def test_no_process_outlives_tests_that_are_killed() -> None:
    script = """
import sys
from tests.postgres.server import Server
server = Server(fsync=False)
server.start()
print(server.pid, server.folder, flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent.parent,
    ) as child:
        assert child.stdout is not None
        pid, folder = child.stdout.readline().split()
        assert is_alive(int(pid))
        child.kill()
        child.wait()
        until(lambda: not Path(folder).exists(), "the end of its folder")
        assert not is_alive(int(pid))  # was ended first: without its folder it ends by itself, sooner or later


def test_ctrl_c_ends_the_server_too(tmp_path: Path) -> None:
    test = tmp_path / "test_interrupted.py"
    test.write_text("""
import os, signal
from tests.postgres.fixtures import postgres
def test_interrupted(postgres):
    print(postgres.pid, postgres.folder, flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    signal.pause()
""")
    ours = ("ASYNCSTORE_TEST_POSTGRES_URL", "PYTEST_")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-qsp", "no:cacheprovider", "--rootdir", str(tmp_path), str(test)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent.parent,
        timeout=PATIENCE,
        check=False,
        env=environment,
    )
    assert done.returncode == pytest.ExitCode.INTERRUPTED, done.stdout + done.stderr
    pid, folder = done.stdout.splitlines()[0].split()
    assert not is_alive(int(pid))
    assert not Path(folder).exists()


def test_a_missing_package_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    programs.cache_clear()
    monkeypatch.setattr(server_module, "_PACKAGE", "not_installed_anywhere")
    try:
        with pytest.raises(NoServerError, match="pip install"):
            programs()
    finally:
        programs.cache_clear()


@pytest.mark.skipif(account() is None, reason="an ordinary user reads what it installed")
def test_programs_that_only_root_can_read_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = programs().parent.parent
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "carried").symlink_to(package)
    if (libraries := Path(f"{package}.libs")).exists():
        (hidden / "carried.libs").symlink_to(libraries)
    hidden.chmod(0o700)
    monkeypatch.setattr(sys, "path", [str(hidden), *sys.path])
    monkeypatch.setattr(server_module, "_PACKAGE", "carried")
    programs.cache_clear()
    try:
        assert not programs().is_relative_to(hidden)
    finally:
        programs.cache_clear()


async def test_the_pooler_lends_few_connections_to_many_clients(pgbouncer_url: str) -> None:
    pids: set[int] = set()

    async def ask() -> None:
        async with connected(pgbouncer_url, statement_cache_size=0) as connection:
            for _ in range(5):
                async with connection.transaction():
                    pids.add(await connection.fetchval("SELECT pg_backend_pid()"))

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(ask)
    assert 1 <= len(pids) <= 2
