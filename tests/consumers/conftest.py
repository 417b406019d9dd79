"""A store in memory and one on SQLite, by a clock that is moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from asyncstore import BaseStoreBackend, ManualClock, MemoryBackend, MetastoreBackend, Store, connect

from .support import SETTINGS


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, clock: ManualClock, tmp_path: Path) -> AsyncGenerator[Store]:
    backend: BaseStoreBackend = MemoryBackend(clock=clock)
    if request.param == "sqlite":
        backend = MetastoreBackend(f"sqlite+aiosqlite:///{tmp_path}/state.db", durability="normal", clock=clock)
    async with backend, connect(backend=backend, settings=SETTINGS, clock=clock) as store:
        yield store
    assert [each.get_name() for each in asyncio.all_tasks() if "heartbeat" in each.get_name()] == []
