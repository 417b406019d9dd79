from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from asyncstore import BaseStoreBackend, ManualClock, ObjectStorageBackend
from asyncstore.testing import BackendConformance, Way


class TestWholeInAFolder(BackendConformance):
    path: Path

    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.path = tmp_path

    @pytest.fixture(params=[Way.AWAIT, Way.THREAD], ids=str)
    def way(self, request: pytest.FixtureRequest) -> Way:
        way: Way = request.param
        return way

    @asynccontextmanager
    async def make_backend(self, clock: ManualClock) -> AsyncGenerator[BaseStoreBackend]:
        async with ObjectStorageBackend(self.path.as_uri(), compression="gzip", clock=clock) as backend:
            yield backend
