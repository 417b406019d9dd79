"""Worker-side backends against their part of the suite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncstore import Settings, WorkersSettings
from asyncstore.settings import CommonIoSettings, CommonSettings
from asyncstore.testing import WorkerBackendConformance
from tests.offload.backends import AirflowBackend, DictBackend, emptied


class TestDict(WorkerBackendConformance):
    state_backend = "tests.offload.backends.DictBackend"

    @pytest.fixture(autouse=True)
    def _empty(self) -> Iterator[None]:
        with emptied():
            yield

    async def lose(self, reference: str) -> bool:
        del DictBackend.objects[reference]
        return True


class TestHooksByAirflowsNames(WorkerBackendConformance):
    state_backend = "tests.offload.backends.AirflowBackend"

    @pytest.fixture(autouse=True)
    def _empty(self) -> Iterator[None]:
        with emptied():
            yield

    async def lose(self, reference: str) -> bool:
        del AirflowBackend.objects[reference]
        return True


class TestFolder(WorkerBackendConformance):
    state_backend = "asyncstore.ObjectStorageBackend"
    root: Path

    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.root = tmp_path / "objects"

    def make_settings(self) -> Settings:
        io = CommonIoSettings(
            state_store_objectstorage_path=self.root.as_uri(), state_store_objectstorage_compression="gzip"
        )
        return Settings(workers=WorkersSettings(state_backend=self.state_backend), common=CommonSettings(io=io))

    async def lose(self, reference: str) -> bool:
        (self.root / reference).unlink()
        return True
