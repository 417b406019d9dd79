"""Contract of watching a key: its value now, every later one that the reader keeps up with, and always the last."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, cast

import anyio
import pytest
from anyio.lowlevel import checkpoint

from ..abc import Capability
from ..accessors import AssetStoreAccessor, TaskStoreAccessor
from ..accessors.base import StateAccessor
from ..errors import AssetInactiveError, AssetNotFoundError
from ..scopes import Asset, AssetScope
from .harness import ConformanceBase, Harness, awaited, requires

__all__ = ["WatchConformance"]

#: Seconds after which a change counts as missed.
PATIENCE = 10


def _watch(state: StateAccessor, key: str) -> aclosing[AsyncGenerator[Any]]:
    return aclosing(cast("AsyncGenerator[Any]", state.awatch(key)))


async def _now(values: AsyncGenerator[Any]) -> Any:
    with anyio.fail_after(PATIENCE):
        return await anext(values)


async def _next(values: AsyncGenerator[Any], change: Callable[[], Awaitable[object]]) -> Any:
    """Give what a reader gets that waits already when the change is made."""
    got: list[Any] = []

    async def read() -> None:
        got.append(await anext(values))

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(read)
            for _ in range(5):
                await checkpoint()
            assert not got, f"the reader got {got[0]!r} before anything had changed"
            await change()
    return got[0]


class WatchConformance(ConformanceBase):
    """Hold a backend to `awatch`."""

    async def test_watch(self, harness: Harness) -> None:
        """Yield the value now, and every change to a reader that waits for it."""
        for state in (harness.task(), harness.asset()):
            await self._watches(harness, state)

    async def _watches(self, harness: Harness, state: TaskStoreAccessor | AssetStoreAccessor) -> None:
        call = harness.call
        async with _watch(state, "key") as values:
            assert await _now(values) is None
            assert await _next(values, lambda: call(state.aset, "key", 1)) == 1
            assert await _next(values, lambda: call(state.aset, "key", [2])) == [2]
            assert await _next(values, lambda: call(state.adelete, "key")) is None
            assert await _next(values, lambda: call(state.aset, "key", 4)) == 4
            assert await _next(values, lambda: call(state.aclear)) is None
            await call(state.aset, "key", 5)
            assert await _now(values) == 5
        async with _watch(state, "key") as values:
            assert await _now(values) == 5

    async def test_watch_never_misses_the_last(self, harness: Harness) -> None:
        """Show a slow reader the last value of a fast writer."""
        state = harness.task()
        last = 20

        async def write() -> None:
            for number in range(1, last + 1):
                await harness.call(state.aset, "key", number)

        seen: list[int] = []
        with anyio.fail_after(PATIENCE):
            async with _watch(state, "key") as values, anyio.create_task_group() as group:
                assert await _now(values) is None
                group.start_soon(write)
                async for value in values:
                    seen.append(value)
                    if value == last:
                        break
                    for _ in range(value % 3 * 10):
                        await checkpoint()
        assert seen == sorted(set(seen))

    async def test_watch_of_expiry(self, harness: Harness) -> None:
        """Show that a value has expired to a reader that waits, though nobody wrote."""
        state = harness.task()
        await harness.call(state.aset, "key", 1, retention=harness.retention)
        async with _watch(state, "key") as values:
            assert await _now(values) == 1
            assert await _next(values, lambda: harness.let_pass(harness.retention)) is None
            assert await _next(values, lambda: harness.call(state.aset, "key", 2)) == 2

    @requires(Capability.COMMIT)
    async def test_watch_of_commits(self, harness: Harness) -> None:
        """Wake readers of different keys and scopes by what concerns each."""
        call, task, asset = harness.call, harness.task(), harness.asset()
        await call(task.aset_many, {"a": 1, "b": 1})
        async with _watch(task, "a") as first, _watch(task, "b") as second, _watch(asset, "a") as third:
            assert [await _now(first), await _now(second), await _now(third)] == [1, 1, None]
            assert await _next(first, lambda: call(task.aset_many, {"a": 2, "b": 2})) == 2
            assert await _next(third, lambda: call(asset.aset, "a", 3)) == 3
            assert await _now(second) == 2
            assert await _next(second, lambda: call(task.aset, "b", 4)) == 4

    @requires(Capability.ENTRIES)
    async def test_watch_of_equal_values(self, harness: Harness) -> None:
        """Count every overwrite where the backend tells of changes, else those that change the value."""
        state = harness.task()
        await harness.call(state.aset, "key", 1)
        assert await harness.call(state.aget_entry, "key") is not None
        async with _watch(state, "key") as values:
            assert await _now(values) == 1
            if harness.has(Capability.WATCHING | Capability.EXPIRY):
                assert await _next(values, lambda: harness.call(state.aset, "key", 1)) == 1
            assert await _next(values, lambda: harness.call(state.aset, "key", 2)) == 2

    @awaited
    async def test_backend_watch(self, harness: Harness) -> None:
        """Yield texts, and None for what is absent."""
        backend = harness.backend
        for scope in await harness.scopes():
            async with aclosing(cast("AsyncGenerator[str | None]", backend.awatch(scope, "key"))) as texts:
                assert await _now(texts) is None
                assert await _next(texts, partial(backend.aset, scope, "key", '"a"')) == '"a"'
                assert await _next(texts, partial(backend.adelete, scope, "key")) is None

    @awaited
    async def test_watch_ends_with_its_reader(self, harness: Harness) -> None:
        """Let a reader leave at any time, and go on for the others."""
        state = harness.task()
        async with _watch(state, "key") as stays:
            assert await _now(stays) is None
            async with _watch(state, "key") as leaves:
                assert await _now(leaves) is None
            with anyio.move_on_after(0):
                async with _watch(state, "key") as cancelled:
                    await anext(cancelled)
                    await anext(cancelled)
            assert await _next(stays, lambda: state.aset("key", 1)) == 1

    @requires(Capability.ASSETS)
    async def test_watch_of_an_asset_that_goes(self, harness: Harness) -> None:
        """Tell the reader that the asset was deactivated, or deleted."""
        call, store, orders = harness.call, harness.store, Asset("orders")
        scope = AssetScope(name="orders")
        await call(store.aregister, orders)
        await call(store.adeactivate, orders)
        with pytest.raises(AssetInactiveError):
            await anext(store.asset_state[scope].awatch("key"))
        await call(store.aactivate, orders)
        for end, error in ((store.adeactivate, AssetInactiveError), (store.adelete_asset, AssetNotFoundError)):
            async with _watch(store.asset_state[scope], "key") as values:
                assert await _now(values) is None
                await call(end, orders)
                with pytest.raises(error):
                    await _now(values)
            await call(store.aregister, orders)
            await call(store.aactivate, orders)
        await call(store.asset_state[orders].aset, "key", 1)
        await call(store.adelete_asset, orders)
        async with _watch(store.asset_state[orders], "key") as values:
            assert await _now(values) is None
