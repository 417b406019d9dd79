from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from asyncstore import BaseStoreBackend, ManualClock, MemoryBackend
from asyncstore.testing import BackendConformance


class TestMemory(BackendConformance):
    @asynccontextmanager
    async def make_backend(self, clock: ManualClock) -> AsyncGenerator[BaseStoreBackend]:
        async with MemoryBackend(clock=clock) as backend:
            yield backend
