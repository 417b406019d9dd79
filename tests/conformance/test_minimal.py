from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from asyncstore import BaseStoreBackend, ManualClock
from asyncstore.testing import BackendConformance, Way
from tests.conformance.backends import DirectBackend, MinimalBackend, UntimedBackend


class TestMinimal(BackendConformance):
    @asynccontextmanager
    async def make_backend(self, clock: ManualClock) -> AsyncGenerator[BaseStoreBackend]:
        async with MinimalBackend() as backend:
            yield backend


class TestDirect(BackendConformance):
    @pytest.fixture(params=[Way.THREAD, Way.LOOP], ids=str)
    def way(self, request: pytest.FixtureRequest) -> Way:  # awaited, it is the minimal backend
        way: Way = request.param
        return way

    @asynccontextmanager
    async def make_backend(self, clock: ManualClock) -> AsyncGenerator[BaseStoreBackend]:
        async with DirectBackend() as backend:
            yield backend


class TestUntimed(BackendConformance):
    @pytest.fixture(params=[Way.AWAIT, Way.LOOP], ids=str)
    def way(self, request: pytest.FixtureRequest) -> Way:
        way: Way = request.param
        return way

    @asynccontextmanager
    async def make_backend(self, clock: ManualClock) -> AsyncGenerator[BaseStoreBackend]:
        async with UntimedBackend(clock) as backend:
            yield backend
