"""The fixtures of PostgreSQL, which tests/conftest.py imports.

A test that may stop, kill or configure its server starts one with `make_server`; the others share `postgres`.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import ExitStack
from typing import Protocol

import pytest

from tests.postgres.databases import Databases
from tests.postgres.pooler import Pooler, find_pgbouncer
from tests.postgres.proxy import Proxy
from tests.postgres.server import NoServerError, Server
from tests.postgres.store_support import migrated
from tests.postgres.wire import Wire, listening

#: Names a server to test against, by a URL whose user may make databases; otherwise the tests start one.
URL_VARIABLE = "ASYNCSTORE_TEST_POSTGRES_URL"
#: Names the major version of the server that the tests start; the newest, otherwise.
VERSION_VARIABLE = "ASYNCSTORE_TEST_POSTGRES_VERSION"


class MakeServer(Protocol):
    def __call__(
        self, *, fsync: bool = False, settings: dict[str, str | int] | None = None, start: bool = True
    ) -> Server: ...


def _new_server(*, fsync: bool, settings: dict[str, str | int] | None = None) -> Server:
    try:
        return Server(fsync=fsync, settings=settings, version=int(os.environ.get(VERSION_VARIABLE, "0")))
    except NoServerError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def postgres() -> Generator[Databases]:
    """Give the server that all tests share: nobody may stop it or change its settings."""
    if url := os.environ.get(URL_VARIABLE):
        databases = Databases(url)
        try:
            yield databases
        finally:
            databases.close()
    else:
        with _new_server(fsync=False) as server:
            yield server


@pytest.fixture
def make_server() -> Generator[MakeServer]:
    """Start servers of the test's own, which end with it."""
    with ExitStack() as stack:

        def make(*, fsync: bool = False, settings: dict[str, str | int] | None = None, start: bool = True) -> Server:
            server = _new_server(fsync=fsync, settings=settings)
            stack.callback(server.close)
            if start:
                server.start()
            return server

        yield make


@pytest.fixture(scope="session")
def database_template(postgres: Databases) -> str:
    """Name what `database_url` copies: a database with our tables, where a module does not say otherwise."""
    return migrated(postgres)


@pytest.fixture
def database_url(postgres: Databases, database_template: str) -> Generator[str]:
    """Give the URL of a database of the test's own; in the end nobody may be connected to it any more."""
    database = postgres.create_database(template=database_template)
    try:
        yield postgres.url(database)
        postgres.expect_no_connections(database)
    finally:
        postgres.drop_database(database)


@pytest.fixture
def proxy(database_url: str) -> Generator[Proxy]:
    """Give a proxy to the server of `database_url`; `proxy.through(database_url)` is the URL to use."""
    with Proxy.to(database_url) as proxy:
        yield proxy


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Generator[Wire]:
    """Hear what goes to the server through every proxy of the test."""
    with listening(monkeypatch) as wire:
        yield wire


@pytest.fixture
def pgbouncer(database_url: str) -> Generator[Pooler]:
    """Give PgBouncer before the server of `database_url`: at most two connections, each lent for a transaction."""
    if find_pgbouncer() is None:
        pytest.skip("the program pgbouncer is not installed")
    with Pooler(database_url) as pooler:
        yield pooler


@pytest.fixture
def pgbouncer_url(pgbouncer: Pooler, database_url: str) -> str:
    """Give the URL of `database_url` by way of PgBouncer."""
    return pgbouncer.through(database_url)
