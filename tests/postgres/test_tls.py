"""TLS: asked for, checked and refused."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import struct
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from asyncstore import (
    ConfigurationError,
    StoreUnavailableError,
)
from tests.postgres.opening import by_way_of, refused, works
from tests.postgres.server import HOST

pytestmark = pytest.mark.anyio

_SSL_REQUEST = struct.pack("!II", 8, 80877103)
_NO_ENCRYPTION = b"SFATAL\0C28000\0Mno pg_hba.conf entry for this host, no encryption\0\0"


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
