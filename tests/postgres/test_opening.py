"""`connect` to PostgreSQL in every documented way, and one clear error for each way that leads nowhere."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import struct
import subprocess
import traceback
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from anyio.to_thread import run_sync
from click.testing import CliRunner
from sqlalchemy.engine import make_url

from asyncstore import (
    ConfigurationError,
    DatabaseError,
    DatabaseSettings,
    MetastoreBackend,
    SchemaError,
    Settings,
    Store,
    StoreError,
    StoreReadOnlyError,
    StoreUnavailableError,
    connect,
)
from asyncstore.backends.metastore import migrate, schema
from asyncstore.cli import main
from tests.postgres.databases import Databases
from tests.postgres.fixtures import MakeServer
from tests.postgres.server import HOST, LOGIN, PASSWORD, Server, free_port
from tests.postgres.store_support import ORDERS, TASK, eventually, migrated

pytestmark = pytest.mark.anyio

#: A password that no server here takes; no message may show it.
SECRET = "tell-nobody"
#: The two halves of one that was not quoted.
HALVES = ("xyzzy", "plugh")

_SSL_REQUEST = struct.pack("!II", 8, 80877103)
_NO_ENCRYPTION = b"SFATAL\0C28000\0Mno pg_hba.conf entry for this host, no encryption\0\0"
_TABLES = "SELECT relname FROM pg_class WHERE relname LIKE 'asyncstore%'"


@pytest.fixture(scope="module")
def database_template(postgres: Databases) -> str:
    return migrated(postgres)


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


@asynccontextmanager
async def connected_store(url: str, **options: object) -> AsyncGenerator[Store]:
    settings = DatabaseSettings.model_validate({"operation_timeout": 2.5, **options})
    async with connect(url, settings=Settings(database=settings)) as store:
        yield store


async def works(url: str, **options: object) -> None:
    async with connected_store(url, **options) as store:
        state = store.asset_state[ORDERS]
        await state.aset_many({"a": 1, "b": 2})
        assert list(await asyncio.gather(state.aget("a"), state.aget("b"))) == [1, 2]
        assert await state.akeys() == ["a", "b"]


def sockets() -> set[str]:
    """Name the sockets of this process, where the system tells them."""
    found: set[str] = set()
    for file in Path("/proc/self/fd").glob("*"):
        with suppress(OSError):
            found.add(str(file.readlink()))
    return {name for name in found if name.startswith("socket")}


async def refused(url: str, kind: type[StoreError], *words: str, secrets: tuple[str, ...] = (SECRET,)) -> None:
    """Hold that nothing but one error comes of a URL, that it says what is wrong, and that nothing stays open."""
    before = sockets()
    with pytest.raises(StoreError) as caught:
        async with connected_store(url, operation_timeout=0.3):
            pass
    text, whole = str(caught.value), "".join(traceback.format_exception(caught.value))
    assert type(caught.value) is kind, text
    for word in words:
        assert word in text
    for secret in secrets:
        assert secret not in whole
    await eventually(lambda: sockets() <= before, "sockets to close")


async def said_by_upgrade(url: str) -> str:
    backend = MetastoreBackend(url, operation_timeout=2.5)
    with pytest.raises(StoreError) as caught:
        await backend.aupgrade()
    await backend.aclose()
    return f"{type(caught.value).__name__}: {caught.value}"


def by_way_of(url: str, host: str, port: int, options: str) -> str:
    return f"{make_url(url).set(host=host, port=port).render_as_string(hide_password=False)}{options}"


# TLS. The wheel's server is built without it, so what speaks it stands before the server, as it does in some clouds.


class Certificates:
    """Certificates that sign themselves: the server's, for the name localhost, and another one."""

    _WORDS = (
        *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
        *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
    )

    def __init__(self, folder: Path) -> None:
        program = shutil.which("openssl")
        if program is None:
            pytest.skip("the program openssl is not installed, which makes the certificates")
        self.server, self.other = folder / "server.crt", folder / "other.crt"
        for path in (self.server, self.other):
            subprocess.run(
                [program, *self._WORDS, "-keyout", path.with_suffix(".key"), "-out", path],
                check=True,
                capture_output=True,
            )

    def context(self, *, clients: Path | None = None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server, self.server.with_suffix(".key"))
        if clients is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(clients)
        return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


class Front:
    """Takes connections that speak TLS and leads them to a server; turns away all others."""

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        self.url = url
        self.asked = 0
        self.port = 0
        self._context = context
        self._tasks: set[asyncio.Task[None]] = set()

    def through(self, options: str, host: str = HOST) -> str:
        return by_way_of(self.url, host, self.port, options)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.asked += 1
        with suppress(OSError, EOFError):
            await self._serve(reader, writer)
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readexactly(8) != _SSL_REQUEST:
            writer.write(b"E" + struct.pack("!I", len(_NO_ENCRYPTION) + 4) + _NO_ENCRYPTION)
            return
        writer.write(b"S")
        await writer.drain()
        await writer.start_tls(self._context)
        place = make_url(self.url)
        behind, onwards = await asyncio.open_connection(place.host, place.port)
        try:
            done = [asyncio.ensure_future(forward(*way)) for way in ((reader, onwards), (behind, writer))]
            await asyncio.wait(done, return_when=asyncio.FIRST_COMPLETED)
            for way in done:
                way.cancel()
            await asyncio.gather(*done, return_exceptions=True)
        finally:
            onwards.close()

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


@asynccontextmanager
async def fronted(url: str, context: ssl.SSLContext) -> AsyncGenerator[Front]:
    front = Front(url, context)
    server = await asyncio.start_server(front.serve, HOST, 0)
    front.port = server.sockets[0].getsockname()[1]
    try:
        yield front
    finally:
        server.close()
        await front.end()


@pytest.mark.parametrize(
    ("host", "options"),
    [
        (HOST, ""),  # TLS where the server has it
        (HOST, "?sslmode=require"),
        (HOST, "?ssl=require"),
        (HOST, "?sslmode=verify-ca&sslrootcert={}"),
        ("localhost", "?sslmode=verify-full&sslrootcert={}"),
    ],
)
async def test_tls(host: str, options: str, certificates: Certificates, database_url: str) -> None:
    async with fronted(database_url, certificates.context()) as front:
        await works(front.through(options.format(certificates.server), host))
        assert front.asked >= 1


async def test_tls_with_a_certificate_of_the_clients(certificates: Certificates, database_url: str) -> None:
    context = certificates.context(clients=certificates.other)
    async with fronted(database_url, context) as front:
        key = certificates.other.with_suffix(".key")
        await works(front.through(f"?sslmode=require&sslcert={certificates.other}&sslkey={key}"))


@pytest.mark.parametrize(
    ("host", "options", "words"),
    [
        ("localhost", "?sslmode=verify-full&sslrootcert={other}", ["TLS", "self-signed", "sslrootcert"]),
        (HOST, "?sslmode=verify-full&sslrootcert={server}", ["TLS", f"not valid for '{HOST}'"]),
        (HOST, "?sslmode=verify-ca&sslrootcert={other}", ["TLS", "self-signed", "sslrootcert"]),
    ],
    ids=["another authority", "another name", "another authority, any name"],
)
async def test_a_server_that_is_not_trusted(
    host: str, options: str, words: list[str], certificates: Certificates, database_url: str
) -> None:
    async with fronted(database_url, certificates.context()) as front:
        url = front.through(options.format(server=certificates.server, other=certificates.other), host)
        await refused(url, StoreUnavailableError, *words)
        assert front.asked == 1, "it will not be trusted at the next attempt"


async def test_a_connection_without_tls_where_it_is_asked_for(certificates: Certificates, database_url: str) -> None:
    async with fronted(database_url, certificates.context()) as front:
        await refused(front.through("?sslmode=disable"), StoreUnavailableError, "no encryption")


async def test_tls_of_a_server_that_has_none(database_url: str) -> None:
    await refused(f"{database_url}?sslmode=require", StoreUnavailableError, "SSL", "sslmode")


async def test_certificates_that_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificates: Certificates, database_url: str
) -> None:
    none = tmp_path / "none.crt"
    empty = tmp_path / "empty.crt"
    empty.touch()
    monkeypatch.setenv("HOME", str(tmp_path))  # where libpq looks, too
    for options, words in (
        (f"sslmode=verify-full&sslrootcert={none}", ["sslrootcert", str(none)]),
        (f"sslmode=require&sslcert={none}", ["sslcert", str(none)]),
        ("sslmode=verify-full", [str(tmp_path / ".postgresql/root.crt")]),
    ):
        await refused(f"{database_url}?{options}", ConfigurationError, *words)
    async with fronted(database_url, certificates.context()) as front:
        url = front.through(f"?sslmode=verify-ca&sslrootcert={empty}")
        await refused(url, StoreUnavailableError, "TLS", "sslrootcert")


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
        async with connected_store(url, operation_timeout=0.3) as store:
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
    monkeypatch.setattr(migrate, "known", lambda: ["0000", "0001"])
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


# The URL.


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        (f"me:{SECRET}@{HOST}:port/app", ["host:5432"]),
        (f"me:{SECRET}@{HOST}:99999/app", ["host:5432"]),
        (f"me:{SECRET}@[::1/app", []),
        (f"me:{SECRET}@one:1,two:2:3/app", []),
        (f"me:{SECRET}@/app?host=one,two&port=1,2,3", ["3 port", "2 hosts"]),
        (f"me:{SECRET}@{HOST}/app?sslmode=perhaps", ["sslmode", "verify-full"]),
        (f"me:{SECRET}@{HOST}/app?ssl=true", ["sslmode", "verify-full"]),
        (f"me:{SECRET}@{HOST}/app?target_session_attrs=best", ["target_session_attrs", "'best'", "prefer-standby"]),
        (f"me:{SECRET}@{HOST}/app%00", ["NUL"]),
    ],
)
async def test_a_url_that_is_wrong(rest: str, words: list[str]) -> None:
    await refused(f"postgresql+asyncpg://{rest}", ConfigurationError, "[database] url", *words)


@pytest.mark.parametrize("kind", ["postgresql+psycopg", "mysql"])
async def test_another_driver(kind: str) -> None:
    await refused(f"{kind}://me:{SECRET}@{HOST}/app", ConfigurationError, repr(kind), "postgresql+asyncpg://")


async def test_an_option_that_nobody_knows(database_url: str) -> None:
    await refused(f"{database_url}?colour=blue", ConfigurationError, "[database] url", "colour")


@pytest.mark.parametrize("sign", ["#", "/", "?", "@", "%", ":"])
@pytest.mark.parametrize("start", ["", "12"], ids=["letters", "digits"])
async def test_a_password_that_is_not_quoted_is_not_told(sign: str, start: str) -> None:
    url = f"postgresql+asyncpg://me:{start or HALVES[0]}{sign}{HALVES[1]}@{HOST}:{free_port()}/app"
    with pytest.raises(StoreError) as caught:  # whichever: the address may still be one
        await works(url, operation_timeout=0.1)
    whole = "".join(traceback.format_exception(caught.value))
    assert not any(half in whole for half in HALVES)


async def test_options_that_are_taken(postgres: Databases, database_url: str) -> None:
    async with connected_store(f"{database_url}?application_name=mine&options=-cwork_mem%3D8MB") as store:
        await store.task_state(TASK).aset("key", 1)
        found = postgres.connections(str(make_url(database_url).database))
        assert all("mine" in each for each in found)
        assert found


@pytest.mark.parametrize("option", ["connect_timeout", "keepalives", "channel_binding", "gssencmode"])
async def test_an_option_that_cannot_be_heeded_is_not_passed_over(option: str, database_url: str) -> None:
    await refused(f"{database_url}?{option}=1", ConfigurationError, "[database] url", option)
