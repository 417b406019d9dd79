from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager

import pytest

from asyncstore import BaseStoreBackend, ManualClock, MetastoreBackend
from asyncstore.testing import BackendConformance
from tests.postgres.client import LoopThread, connect
from tests.postgres.databases import Databases

_EMPTY = (
    "DELETE FROM asyncstore_asset; DELETE FROM asyncstore_task_instance; DELETE FROM asyncstore_triggerer; "
    "DELETE FROM asyncstore_leftover"
)


@pytest.fixture(scope="module")
def url(postgres: Databases, database_template: str) -> Generator[str]:
    """A database of this module's own."""
    database = postgres.create_database(template=database_template)
    yield postgres.url(database)
    postgres.expect_no_connections(database)
    postgres.drop_database(database)


@pytest.fixture(scope="module")
def empty(url: str) -> Generator[Callable[[], None]]:
    """Deletes everything; on one connection, since to connect takes longer than a test."""
    with LoopThread("emptying") as thread:
        connection = thread.run(connect(url))

        def empty() -> None:
            thread.run(connection.execute(_EMPTY))

        yield empty
        thread.run(connection.close())


class TestPostgresql(BackendConformance):
    url: str

    @pytest.fixture(autouse=True)
    def _place(self, url: str, empty: Callable[[], None]) -> None:
        self.url = url
        empty()

    @asynccontextmanager
    async def make_backend(self, clock: ManualClock) -> AsyncGenerator[BaseStoreBackend]:
        async with MetastoreBackend(self.url, clock=clock) as backend:
            yield backend
