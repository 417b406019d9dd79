"""Everything that holds for values in the store holds for those in object storage."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from asyncstore import BaseStoreBackend, ManualClock, MemoryBackend, MetastoreBackend, Settings, WorkersSettings
from asyncstore.settings import CommonIoSettings, CommonSettings, StateStoreSettings
from asyncstore.testing import BackendConformance, Way
from tests.conformance.backends import MinimalBackend, UntimedBackend


class Offloaded(BackendConformance):
    path: Path

    # These are of the rows themselves: how large and in which words a value may be there, and how many are reported.
    test_size_limit = None  # type: ignore[assignment]
    test_size_limit_of_many = None  # type: ignore[assignment]
    test_size_limit_is_an_option = None  # type: ignore[assignment]
    test_text_is_compact_and_not_escaped = None  # type: ignore[assignment]
    test_update_that_fails_changes_nothing = None  # type: ignore[assignment]
    test_backend_gives_one_scope_per_asset = None  # type: ignore[assignment]
    test_batches = None  # type: ignore[assignment]

    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.path = tmp_path

    @pytest.fixture(params=[Way.AWAIT, Way.THREAD], ids=str)
    def way(self, request: pytest.FixtureRequest) -> Way:
        way: Way = request.param
        return way

    def make_settings(self, state_store: StateStoreSettings) -> Settings:
        io = CommonIoSettings(state_store_objectstorage_path=f"memory://{self.path.name}/{self.path.parent.name}")
        workers = WorkersSettings(state_backend="asyncstore.ObjectStorageBackend")
        return Settings(state_store=state_store, workers=workers, common=CommonSettings(io=io))


class TestOffloadedFromSqlite(Offloaded):
    @asynccontextmanager
    async def make_backend(self, clock: ManualClock) -> AsyncGenerator[BaseStoreBackend]:
        url = f"sqlite+aiosqlite:///{self.path}/store.db"
        async with MetastoreBackend(url, durability="normal", clock=clock) as backend:
            yield backend


class TestOffloadedFromMemory(Offloaded):
    @pytest.fixture(params=[Way.LOOP], ids=str)
    def way(self, request: pytest.FixtureRequest) -> Way:
        way: Way = request.param
        return way

    @asynccontextmanager
    async def make_backend(self, clock: ManualClock) -> AsyncGenerator[BaseStoreBackend]:
        async with MemoryBackend(clock=clock) as backend:
            yield backend


class TestOffloadedFromMinimal(Offloaded):
    # A large value is judged in a thread, and not before it is known that several cannot be written at once.
    test_refused_values = None  # type: ignore[assignment]

    @asynccontextmanager
    async def make_backend(self, clock: ManualClock) -> AsyncGenerator[BaseStoreBackend]:
        async with MinimalBackend() as backend:
            yield backend


class TestOffloadedFromUntimed(Offloaded):
    # A large value is judged in a thread, and not before it is known that several cannot be written at once.
    test_refused_values = None  # type: ignore[assignment]

    @pytest.fixture(params=[Way.AWAIT], ids=str)
    def way(self, request: pytest.FixtureRequest) -> Way:
        way: Way = request.param
        return way

    @asynccontextmanager
    async def make_backend(self, clock: ManualClock) -> AsyncGenerator[BaseStoreBackend]:
        async with UntimedBackend(clock) as backend:
            yield backend
