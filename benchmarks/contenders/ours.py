"""The store itself, through its public accessors."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from typing import Literal

from asyncstore import Asset, AssetStoreAccessor, Settings, Store, TaskScope, TaskStoreAccessor, connect

from ..databases.sites import upgrade
from ..measuring.data import VALUES
from ..measuring.loop import Kind, Operation
from .abc import AsyncContender, PlainContender

__all__ = ["ASSET", "Ours", "OursFromPlainCode", "Scope"]

#: State of an asset or of a task.
Scope = Literal["asset", "task"]

ASSET = Asset("bench")
_TASK = TaskScope("bench", "run", "task")
_PAGE = 1000


def _state(store: Store, scope: Scope) -> AssetStoreAccessor | TaskStoreAccessor:
    return store.asset_state[ASSET] if scope == "asset" else store.task_state(_TASK)


async def _fill(state: AssetStoreAccessor | TaskStoreAccessor, keys: Sequence[str]) -> None:
    if await state.aget(keys[-1]) is not None:
        return
    ordered = sorted(keys)
    for start in range(0, len(ordered), _PAGE):
        page = ordered[start : start + _PAGE]
        await state.aset_many({key: VALUES[number % len(VALUES)] for number, key in enumerate(page)})


class Ours(AsyncContender):
    """`await state.aget(...)` and `await state.aset(...)`.

    :param name: the name.
    :param keys: written where they are missing.
    :param runner: runs the loop.
    :param url: the metastore.
    :param scope: whose state.
    """

    def __init__(
        self, name: str, keys: Sequence[str], runner: asyncio.Runner, url: str, scope: Scope = "asset"
    ) -> None:
        super().__init__(name, keys, runner)
        self._url = url
        self._scope: Scope = scope
        self._stack = AsyncExitStack()

    async def aopen(self) -> Mapping[Kind, Operation]:
        """Make the tables and rows that are missing, and connect."""
        await upgrade(self._url)
        store = await self._stack.enter_async_context(connect(self._url, settings=Settings()))
        state, count = _state(store, self._scope), len(VALUES)
        await _fill(state, self.keys)
        return {
            "get": lambda key, _: state.aget(key),
            "set": lambda key, number: state.aset(key, VALUES[number % count]),
        }

    async def aclose(self) -> None:
        """Close the store."""
        await self._stack.aclose()


class OursFromPlainCode(PlainContender):
    """`state.get(...)` and `state.set(...)`, on a thread without an event loop.

    :param name: the name.
    :param keys: rows that are there.
    :param url: the metastore.
    """

    def __init__(self, name: str, keys: Sequence[str], url: str) -> None:
        super().__init__(name, keys)
        self._url = url
        self._stack = ExitStack()

    def open(self) -> None:
        """Connect."""
        store = self._stack.enter_context(connect(self._url, settings=Settings()))
        state, count = _state(store, "asset"), len(VALUES)
        self._operations = {
            "get": lambda key, _: state.get(key),
            "set": lambda key, number: state.set(key, VALUES[number % count]),
        }

    def close(self) -> None:
        """Close the store."""
        self._stack.close()
