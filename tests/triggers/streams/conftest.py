from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from asyncstore import MemoryBackend, Store, connect

from .broker import Broker
from .support import Messages, Numbers, World, settings


@pytest.fixture
async def world(anyio_backend: str) -> AsyncIterator[World]:
    Numbers.world = World()
    yield Numbers.world
    assert Numbers.world.open_now == 0, "a source was left open"


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[Store]:
    if request.param == "memory":
        opened = connect(backend=MemoryBackend(), settings=settings(4))
    else:
        opened = connect("sqlite+aiosqlite:///:memory:", settings=settings(4))
    async with opened as store:
        yield store


@pytest.fixture(autouse=True)
def _forget_world() -> Iterator[None]:
    yield
    Numbers.world = World()


@pytest.fixture
async def broker(world: World) -> AsyncIterator[Broker]:
    Messages.broker = Broker()
    yield Messages.broker
    assert Messages.broker.open_now == 0, "a connection was left open"
