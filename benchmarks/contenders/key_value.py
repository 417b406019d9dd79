"""py-key-value-aio, a key/value store with an async interface over many databases."""

from __future__ import annotations

import asyncio
import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from ..measuring.data import VALUES
from ..measuring.loop import Kind, Operation
from .abc import AsyncContender

__all__ = ["KeyValue", "disk_store", "postgres_store"]

_PAGE = 1000


def postgres_store(dsn: str) -> Any:
    """Make its PostgreSQL store."""
    module = importlib.import_module("key_value.aio.stores.postgresql")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its interface may change; that does not matter here
        return module.PostgreSQLStore(url=dsn)


def disk_store(folder: Path) -> Any:
    """Make its disk store, a SQLite file, with commits that survive a loss of power as ours do."""
    module = importlib.import_module("key_value.aio.stores.disk")
    cache = importlib.import_module("diskcache").Cache(folder, eviction_policy="none", sqlite_synchronous=2)
    return module.DiskStore(disk_cache=cache)


class KeyValue(AsyncContender):
    """`await store.get(...)` and `await store.put(...)`.

    :param name: the name.
    :param keys: the keys; filled here.
    :param runner: runs the loop.
    :param make: makes the store.
    """

    def __init__(self, name: str, keys: Sequence[str], runner: asyncio.Runner, make: Callable[[], Any]) -> None:
        super().__init__(name, keys, runner)
        self._make = make
        self._stack = AsyncExitStack()

    async def aopen(self) -> Mapping[Kind, Operation]:
        """Connect and fill."""
        store = await self._stack.enter_async_context(self._make())
        ordered, count = sorted(self.keys), len(VALUES)
        for start in range(0, len(ordered), _PAGE):
            page = ordered[start : start + _PAGE]
            await store.put_many(page, [VALUES[number % count] for number in range(len(page))])
        return {
            "get": lambda key, _: store.get(key),
            "set": lambda key, number: store.put(key, VALUES[number % count]),
        }

    async def aclose(self) -> None:
        """Disconnect."""
        await self._stack.aclose()
