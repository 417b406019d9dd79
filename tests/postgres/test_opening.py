"""`connect` to PostgreSQL in every documented way, and one clear error for each way that leads nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from anyio.to_thread import run_sync
from click.testing import CliRunner
from sqlalchemy.engine import make_url

from asyncstore import (
    DatabaseError,
    MetastoreBackend,
    SchemaError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from asyncstore.backends.metastore import migrate, schema
from asyncstore.cli import main
from tests.postgres.databases import Databases
from tests.postgres.fixtures import MakeServer
from tests.postgres.opening import SECRET, connected_store, refused, said_by_upgrade, works
from tests.postgres.proxy import Proxy
from tests.postgres.server import HOST, LOGIN, PASSWORD, Server, free_port
from tests.postgres.store_support import ORDERS, TASK, migrated

pytestmark = pytest.mark.anyio

_TABLES = "SELECT relname FROM pg_class WHERE relname LIKE 'asyncstore%'"


@pytest.fixture
def empty_url(postgres: Databases) -> Generator[str]:
    """Give the URL of a database without our tables."""
    database = postgres.create_database()
    yield postgres.url(database)
    postgres.expect_no_connections(database)
    postgres.drop_database(database)


@pytest.fixture(scope="module")
def own() -> Generator[Server]:
    """Give a server with a user that needs a password, by TCP and by the socket."""
    with Server(fsync=False) as server:
        yield server


@pytest.fixture
def own_database(own: Server) -> Generator[str]:
    database = own.create_database(template=migrated(own))
    yield database
    own.expect_no_connections(database)
    own.drop_database(database)


# Several hosts.


@pytest.mark.parametrize("form", ["{user}@{dead},{alive}/{name}", "{user}@/{name}?host={hosts}&port={ports}"])
async def test_the_first_of_two_hosts_is_dead(form: str, database_url: str) -> None:
    place = make_url(database_url)
    dead = free_port()
    parts = {
        "user": database_url.partition("://")[2].rpartition("@")[0],
        "dead": f"{HOST}:{dead}",
        "alive": f"{place.host}:{place.port}",
        "name": place.database,
        "hosts": f"{HOST},{place.host}",
        "ports": f"{dead},{place.port}",
    }
    url = f"postgresql+asyncpg://{form.format(**parts)}"
    await works(url)
    for wanted in ("any", "primary", "read-write", "prefer-standby"):
        await works(f"{url}{'&' if '?' in url else '?'}target_session_attrs={wanted}")


async def test_every_host_is_dead() -> None:
    one, two = f"{HOST}:{free_port()}", f"{HOST}:{free_port()}"
    await refused(f"postgresql+asyncpg://me:{SECRET}@{one},{two}/app", StoreUnavailableError, one, two)


async def test_only_a_standby_is_there(make_server: MakeServer) -> None:
    primary = make_server()
    database = primary.create_database(template=await run_sync(migrated, primary))
    standby = await run_sync(primary.make_standby)
    await run_sync(primary.stop)
    alone = standby.url(database)
    several = alone.replace(HOST, f"{HOST}:{primary.port},{HOST}")
    await refused(several, StoreUnavailableError, str(primary.port), str(standby.port))
    await refused(f"{alone}?target_session_attrs=primary", StoreUnavailableError, "primary")
    for url in (alone, f"{several}?target_session_attrs=any", f"{several}?target_session_attrs=prefer-standby"):
        async with connected_store(url, operation_timeout=1.5) as store:
            assert await store.task_state(TASK).akeys() == []
            with pytest.raises(StoreReadOnlyError, match="standby"):
                await store.task_state(TASK).aset("key", 1)


# The login.


async def test_by_the_socket_and_by_tcp_with_a_password(own: Server, own_database: str, tmp_path: Path) -> None:
    await works(own.socket_url(own_database))
    own.fetch(_GRANT, database=own_database)
    own.fetch(_GRANT_SEQUENCES, database=own_database)
    try:
        for password in ("p@ss/w#rd:%?&+ é", PASSWORD):
            own.fetch(f"ALTER ROLE {LOGIN} PASSWORD '{password}'")
            quoted = quote(password, safe="")
            await works(own.url(own_database, user=LOGIN, password="-").replace(":-@", f":{quoted}@"))
            await works(own.socket_url(own_database, user=LOGIN, password=quoted))
    finally:
        own.fetch(f"ALTER ROLE {LOGIN} PASSWORD '{PASSWORD}'")
    file = tmp_path / "passwords"
    file.write_text(f"{HOST}:{own.port}:{own_database}:{LOGIN}:{PASSWORD}\n")
    file.chmod(0o600)
    await works(f"{own.url(own_database, user=LOGIN)}?passfile={file}")


async def test_logins_that_are_wrong(own: Server, own_database: str) -> None:
    place = f"{own_database!r} on {HOST}:{own.port}"
    check = "check the user and the password"
    for url, words in (
        (own.url(own_database, user=LOGIN, password=SECRET), [place, "password authentication failed", check]),
        (own.socket_url(own_database, user=LOGIN, password=SECRET), ["password authentication failed", check]),
        (own.url(own_database, user=LOGIN), [place, "password", check]),
        (own.url(own_database, user="somebody", password=SECRET), [place, 'role "somebody" does not exist', check]),
        (own.url("nowhere", user="postgres", password=SECRET), ["'nowhere'", "does not exist", "create it"]),
    ):
        await refused(url, StoreUnavailableError, *words)


# The server.


async def test_a_server_that_is_away(tmp_path: Path) -> None:
    port = free_port()
    for rest, words in (
        (f"{HOST}:{port}/app", [f"'app' on {HOST}:{port}", "check that the server runs"]),
        ("nowhere.invalid/app", ["nowhere.invalid", "check that the server runs and the address is right"]),
        (f"/app?host={tmp_path}", [str(tmp_path), "check that the server runs"]),
    ):
        await refused(f"postgresql+asyncpg://me:{SECRET}@{rest}", StoreUnavailableError, *words)


@pytest.mark.parametrize("silent", [False, True])
async def test_the_log_says_soon_that_the_server_is_away(
    silent: bool, proxy: Proxy, database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("asyncstore.backends.metastore.postgresql.pool._SILENT", 0.2)
    if silent:
        proxy.stall("server")
    else:
        proxy.refuse()
    backend = MetastoreBackend(proxy.through(database_url), operation_timeout=2.0)
    with pytest.raises(StoreUnavailableError):
        await backend.aget(TASK, "key")
    await backend.aclose()
    proxy.resume()
    said = "does not answer" if silent else "cannot be used now"
    assert [said in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["silent", "another protocol"])
async def test_a_server_that_is_something_else(answer: bytes) -> None:
    ended: list[asyncio.Event] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.append(asyncio.Event())
        event = ended[-1]
        writer.write(answer)
        with suppress(OSError):
            while await reader.read(100):
                pass
        writer.close()
        event.set()

    server = await asyncio.start_server(serve, HOST, 0)
    place = f"{HOST}:{server.sockets[0].getsockname()[1]}"
    await refused(f"postgresql+asyncpg://me:{SECRET}@{place}/app", StoreUnavailableError, place)
    server.close()
    for event in ended:
        await event.wait()


# The schema.


async def test_an_empty_database_is_left_as_it_is(postgres: Databases, empty_url: str) -> None:
    database = str(make_url(empty_url).database)
    postgres.fetch("CREATE TABLE theirs (a int)", database=database)
    await refused(empty_url, SchemaError, repr(database), "none of asyncstore's tables", "`asyncstore db upgrade`")
    assert postgres.fetch(_TABLES, database=database) == []


async def test_several_upgrade_at_once_and_one_does_it(empty_url: str) -> None:
    backends = [MetastoreBackend(empty_url) for _ in range(6)]
    found = await asyncio.gather(*(backend.aupgrade() for backend in backends))
    for backend in backends:
        await backend.aclose()
    assert sorted(found, key=str) == [*[(migrate.HEAD, migrate.HEAD)] * 5, (None, migrate.HEAD)]
    await works(empty_url)


def test_the_documented_commands(postgres: Databases, empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYNCSTORE__DATABASE__URL", empty_url)
    postgres.fetch("CREATE TABLE theirs (a int)", database=make_url(empty_url).database)

    def run(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(main, ["db", *arguments])
        assert done.exit_code == code, done.output
        return done.output

    assert "`asyncstore db upgrade` adds them" in run("check", code=1)
    run("upgrade")
    run("check")
    assert run("current").strip() == migrate.HEAD
    run("upgrade")
    run("downgrade", "base", "--yes")
    assert "`asyncstore db upgrade` adds them" in run("check", code=1)
    left = {row["relname"] for row in postgres.fetch(_TABLES, database=make_url(empty_url).database)}
    assert left == {schema.VERSION_TABLE, f"{schema.VERSION_TABLE}_pkc"}
    assert postgres.fetch("SELECT * FROM theirs", database=make_url(empty_url).database) == []


@pytest.mark.parametrize(
    ("revision", "words"),
    [
        ("9999", ["schema 9999", "does not know", "a newer release wrote it: upgrade asyncstore"]),
        ("0000", ["schema 0000", f"this release needs {migrate.HEAD}", "run `asyncstore db upgrade`"]),
        (None, ["none of asyncstore's tables", "run `asyncstore db upgrade`"]),
    ],
    ids=["later", "earlier", "emptied"],
)
async def test_a_schema_of_another_release(
    revision: str | None, words: list[str], postgres: Databases, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "known", lambda: ["0000", migrate.HEAD])
    database = make_url(database_url).database
    postgres.fetch("DELETE FROM asyncstore_alembic_version", database=database)
    if revision is not None:
        postgres.fetch("INSERT INTO asyncstore_alembic_version VALUES ($1)", revision, database=database)
    await refused(database_url, SchemaError, *words)
    if revision == "9999":
        assert "a newer release wrote it" in await said_by_upgrade(database_url)


@pytest.mark.parametrize(
    "theirs",
    [
        "CREATE TABLE asyncstore_asset (theirs int)",
        "CREATE TABLE asyncstore_alembic_version (theirs int)",
        "CREATE TABLE asyncstore_alembic_version AS VALUES ('0001'), ('0002')",
        "CREATE VIEW asyncstore_event AS SELECT 1 AS theirs",
        "CREATE FUNCTION asyncstore_tell_all() RETURNS void LANGUAGE sql AS ''",
    ],
)
async def test_somebody_else_has_what_is_called_like_ours(theirs: str, postgres: Databases, empty_url: str) -> None:
    database = str(make_url(empty_url).database)
    postgres.fetch(theirs, database=database)
    before = postgres.fetch(_TABLES, database=database)
    await refused(empty_url, SchemaError, repr(database))
    said = await said_by_upgrade(empty_url)
    assert said.startswith("SchemaError: "), said
    assert repr(database) in said
    assert postgres.fetch(_TABLES, database=database) == before, "nothing is left half way"


# Rights, and another place for the tables.

_GRANT = f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {LOGIN}"
_GRANT_SEQUENCES = f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {LOGIN}"


async def test_a_database_of_somebody_else(own: Server, own_database: str) -> None:
    url = own.url(own_database, user=LOGIN, password=PASSWORD)
    hint = "grant the rights that the page on databases lists"
    await refused(url, DatabaseError, repr(own_database), "permission denied", hint, secrets=(PASSWORD,))
    own.fetch(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {LOGIN}", database=own_database)
    async with connected_store(url) as store:
        assert await store.task_state(TASK).aget("key") is None
        with pytest.raises(DatabaseError, match=hint):
            await store.task_state(TASK).aset("key", 1)
    own.fetch(_GRANT, database=own_database)
    own.fetch(_GRANT_SEQUENCES, database=own_database)
    await works(url)
    async with connected_store(url) as store:  # what the message asked for is enough for the rest, too
        claimed = await store.aclaim_watcher(ORDERS, "watcher", owner="a test")
        await claimed.acommit(await claimed.prepare("event", "key", {"offset": 1}))
        await store.backend.acleanup()
        await store.adelete_asset(ORDERS)
    own.fetch(f'REVOKE CONNECT ON DATABASE "{own_database}" FROM PUBLIC')
    await refused(url, DatabaseError, repr(own_database), "permission denied for database", secrets=(PASSWORD,))


async def test_a_user_that_may_not_make_tables(own: Server) -> None:
    database = own.create_database()
    url = own.url(database, user=LOGIN, password=PASSWORD)
    await refused(url, SchemaError, "`asyncstore db upgrade`", secrets=(PASSWORD,))
    said = await said_by_upgrade(url)
    assert said.startswith("DatabaseError: ")
    assert "permission denied for schema public" in said
    assert PASSWORD not in said
    own.fetch(f"GRANT CREATE ON SCHEMA public TO {LOGIN}", database=database)
    backend = MetastoreBackend(url)
    await backend.aupgrade()
    await backend.aclose()
    await works(url)
    own.expect_no_connections(database)
    own.drop_database(database)


@pytest.mark.parametrize("option", ["search_path={}", "options=-csearch_path%3D{}"])
async def test_another_schema_beside(option: str, postgres: Databases, database_url: str) -> None:
    database = make_url(database_url).database
    url = f"{database_url}?{option.format('elsewhere')}"
    await refused(url, SchemaError, "none of asyncstore's tables")
    assert "schema" in await said_by_upgrade(url)
    postgres.fetch("CREATE SCHEMA elsewhere", database=database)
    backend = MetastoreBackend(url)
    assert await backend.aupgrade() == (None, migrate.HEAD)
    await backend.aclose()
    async with connected_store(database_url) as here, connected_store(url) as there:
        await asyncio.gather(
            *(store.task_state(TASK).aset(f"key{number}", name) for name, store in (("here", here), ("there", there))
              for number in range(5))
        )  # fmt: skip
        for name, store in (("here", here), ("there", there)):
            assert await store.task_state(TASK).aget("key0") == name
            await store.aclaim_watcher(ORDERS, name, owner="a test")
            assert [watcher.name for watcher in await store.alist_watchers()] == [name]
