from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from asyncstore import BaseStoreBackend, ManualClock, MetastoreBackend
from asyncstore.testing import BackendConformance, Way


def url(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with its tables, which take longer to create than a test takes."""
    path = tmp_path_factory.mktemp("empty") / "store.db"
    with MetastoreBackend(url(path)):
        pass
    return path


class TestSqliteFile(BackendConformance):
    path: Path

    @pytest.fixture(autouse=True)
    def _place(self, empty: Path, tmp_path: Path) -> None:
        self.path = tmp_path / "store.db"
        shutil.copy(empty, self.path)

    @asynccontextmanager
    async def make_backend(self, clock: ManualClock) -> AsyncGenerator[BaseStoreBackend]:
        async with MetastoreBackend(url(self.path), durability="normal", clock=clock) as backend:
            yield backend
        # The last connection that is closed takes the log with it.
        assert [each.name for each in self.path.parent.iterdir()] == ["store.db"]


class TestSqliteInMemory(BackendConformance):
    @pytest.fixture(params=[Way.AWAIT, Way.THREAD], ids=str)
    def way(self, request: pytest.FixtureRequest) -> Way:  # the file is called in every way
        way: Way = request.param
        return way

    @asynccontextmanager
    async def make_backend(self, clock: ManualClock) -> AsyncGenerator[BaseStoreBackend]:
        async with MetastoreBackend("sqlite+aiosqlite:///:memory:", clock=clock) as backend:
            yield backend
