"""Opening a store as it should be opened, and as it should not."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from asyncstore import (
    DatabaseSettings,
    MetastoreBackend,
    Settings,
    Store,
    StoreError,
    connect,
)
from tests.postgres.store_support import ORDERS, eventually

SECRET = "tell-nobody"
#: The two halves of one that was not quoted.
HALVES = ("xyzzy", "plugh")


@asynccontextmanager
async def connected_store(url: str, **options: object) -> AsyncGenerator[Store]:
    settings = DatabaseSettings.model_validate({"operation_timeout": 2.5, **options})
    async with connect(url, settings=Settings(database=settings)) as store:
        yield store


async def works(url: str, **options: object) -> None:
    async with connected_store(url, **options) as store:
        state = store.asset_state[ORDERS]
        await state.aset_many({"a": 1, "b": 2})
        assert list(await asyncio.gather(state.aget("a"), state.aget("b"))) == [1, 2]
        assert await state.akeys() == ["a", "b"]


def sockets() -> set[str]:
    """Name the sockets of this process, where the system tells them."""
    found: set[str] = set()
    for file in Path("/proc/self/fd").glob("*"):
        with suppress(OSError):
            found.add(str(file.readlink()))
    return {name for name in found if name.startswith("socket")}


async def refused(url: str, kind: type[StoreError], *words: str, secrets: tuple[str, ...] = (SECRET,)) -> None:
    """Hold that nothing but one error comes of a URL, that it says what is wrong, and that nothing stays open."""
    before = sockets()
    with pytest.raises(StoreError) as caught:
        async with connected_store(url, operation_timeout=0.3):
            pass
    text, whole = str(caught.value), "".join(traceback.format_exception(caught.value))
    assert type(caught.value) is kind, text
    for word in words:
        assert word in text
    for secret in secrets:
        assert secret not in whole
    await eventually(lambda: sockets() <= before, "sockets to close")


async def said_by_upgrade(url: str) -> str:
    backend = MetastoreBackend(url, operation_timeout=2.5)
    with pytest.raises(StoreError) as caught:
        await backend.aupgrade()
    await backend.aclose()
    return f"{type(caught.value).__name__}: {caught.value}"


def by_way_of(url: str, host: str, port: int, options: str) -> str:
    return f"{make_url(url).set(host=host, port=port).render_as_string(hide_password=False)}{options}"
