"""Contract of the four operations, of scopes that know nothing of each other, and of a store's life."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from ..errors import StoreClosedError, StoreError
from ..scopes import Asset, Scope, TaskScope
from .harness import TASK, ConformanceBase, Harness, awaited

__all__ = ["OperationConformance"]

#: How many callers write at once.
CROWD = 4


class OperationConformance(ConformanceBase):
    """Hold a backend to reading, writing, deleting and clearing."""

    async def test_backend_four(self, harness: Harness) -> None:
        """Read what was written last, and nothing that was deleted or cleared."""
        call, backend = harness.call, harness.backend
        for scope in await harness.scopes():
            assert await call(backend.aget, scope, "a") is None
            await call(backend.adelete, scope, "a")
            await call(backend.aclear, scope)
            for text in ("1", '"two"', "[3]"):
                await call(backend.aset, scope, "a", text)
                assert await call(backend.aget, scope, "a") == text
            await call(backend.aset, scope, "b", "2")
            await call(backend.adelete, scope, "a")
            await call(backend.adelete, scope, "a")
            assert await call(backend.aget_many, scope, ["a", "b"]) == {"b": "2"}
            await call(backend.aset, scope, "a", "1")
            await call(backend.aclear, scope)
            assert await call(backend.aget_many, scope, ["a", "b"]) == {}
            await call(backend.aset, scope, "a", "4")
            assert await call(backend.aget, scope, "a") == "4"

    async def test_backend_four_take_every_argument(self, harness: Harness) -> None:
        """Take `expires_at`, `all_map_indices` and `session` by name."""
        call, backend = harness.call, harness.backend
        later = harness.now + harness.retention
        await call(backend.aset, TASK, "a", "1", expires_at=later, session=None)
        assert await call(backend.aget, TASK, "a", session=None) == "1"
        await call(backend.adelete, TASK, "a", session=None)
        await call(backend.aset, TASK, "a", "1", expires_at=None)
        await call(backend.aclear, TASK, all_map_indices=False, session=None)
        assert await call(backend.aget, TASK, "a") is None

    async def test_accessors(self, harness: Harness) -> None:
        """Read the value or the default; delete and clear."""
        call = harness.call
        empty: list[Any] = [0, False, "", [], {}]
        for state in (harness.task(), harness.asset()):
            assert await call(state.aget, "a") is None
            assert await call(state.aget, "a", 5) == 5
            assert await call(state.aget, "a", default=[]) == []
            for value in empty:
                await call(state.aset, "a", value)
                assert await call(state.aget, "a", default="default") == value
            await call(state.adelete, "a")
            await call(state.adelete, "a")
            assert await call(state.aget, "a", default="default") == "default"
            await call(state.aset, "a", 1)
            await call(state.aset, "b", 2)
            await call(state.aclear)
            await call(state.aclear)
            assert await call(state.aget_many, ["a", "b"]) == {}

    async def test_many(self, harness: Harness) -> None:
        """Read several keys in the order asked for, each once, without those that are absent."""
        call = harness.call
        for state in (harness.task(), harness.asset()):
            for key in ("a", "b", "c"):
                await call(state.aset, key, key.upper())
            found = await call(state.aget_many, (key for key in ("c", "none", "a", "c")))
            assert list(found.items()) == [("c", "C"), ("a", "A")]
            assert await call(state.aget_many, []) == {}
            with pytest.raises(TypeError, match="several keys"):
                await call(state.aget_many, "abc")

    async def test_scopes_are_isolated(self, harness: Harness) -> None:
        """Keep what one scope does from every other."""
        call, backend = harness.call, harness.backend
        tasks = [TASK, TaskScope("dag", "run", "task", 0), TaskScope("dag", "run", "task", 1)]
        tasks += [TaskScope("dag", "run", "other"), TaskScope("dag", "rerun", "task"), TaskScope("d", "run", "task")]
        tasks += [
            TaskScope("run", "dag", "task"),
            TaskScope("assets", "orders", "key"),
            TaskScope("orders", "key", "x"),
        ]
        assets = [await harness.asset_scope(name) for name in ("orders", "task", "dag", "dag/run/task/-1")]
        scopes: list[Scope] = [*tasks, *assets]
        for left_out in scopes:
            for number, scope in enumerate(scopes):
                await call(backend.aset, scope, "key", str(number))
            await call(backend.aclear, left_out)
            expected = [None if scope == left_out else str(number) for number, scope in enumerate(scopes)]
            assert [await call(backend.aget, scope, "key") for scope in scopes] == expected

    async def test_clear_of_all_map_indices(self, harness: Harness) -> None:
        """Clear every instance of the task, mapped or not, and no other task's."""
        call = harness.call
        mapped = [TaskScope("dag", "run", "task", index) for index in (-1, 0, 1, 7, 2**31 - 1)]
        others = [
            TaskScope("dag", "run", "task2", 0),
            TaskScope("dag", "run2", "task"),
            TaskScope("dag2", "run", "task"),
        ]
        for start in mapped[:2]:
            for scope in (*mapped, *others):
                await call(harness.task(scope).aset, "a", 1)
                await call(harness.task(scope).aset, "b", 2)
            await call(harness.task(start).aclear, all_map_indices=True)
            for scope in mapped:
                assert await call(harness.task(scope).aget_many, ["a", "b"]) == {}
            for scope in others:
                assert await call(harness.task(scope).aget_many, ["a", "b"]) == {"a": 1, "b": 2}

    async def test_backend_clear_of_all_map_indices(self, harness: Harness) -> None:
        """Clear every instance, whichever of them is given, even one that has no state."""
        call, backend = harness.call, harness.backend
        scopes = [TaskScope("dag", "run", "task", index) for index in (-1, 0, 1)]
        for scope in scopes[:2]:
            await call(backend.aset, scope, "key", "1")
        await call(backend.aclear, scopes[2], all_map_indices=True)
        assert [await call(backend.aget, scope, "key") for scope in scopes] == [None] * 3

    async def test_sync_and_async_see_the_same(self, harness: Harness) -> None:
        """Show each side at once what the other wrote."""
        for state in (harness.task(), harness.asset()):
            await harness.call(state.aset, "key", "called")
            assert await state.aget("key") == "called"
            await state.aset("key", "awaited")
            assert await harness.call(state.aget, "key") == "awaited"
            await harness.call(state.aclear)
            assert await state.aget("key") is None

    async def test_writes_at_once(self, harness: Harness) -> None:
        """Keep one whole value of those that are written at once, and every one of different keys."""
        state = harness.task()
        values = [[number] * 1000 for number in range(CROWD)]

        async def write(number: int) -> None:
            for _ in range(3):
                await harness.call(state.aset, "key", values[number])
                await harness.call(state.aset, f"key {number}", number)

        async with anyio.create_task_group() as group:
            for number in range(CROWD):
                group.start_soon(write, number)
        assert await state.aget("key") in values
        assert [await state.aget(f"key {number}") for number in range(CROWD)] == list(range(CROWD))

    @awaited
    async def test_cancelled_writes_are_whole(self, harness: Harness) -> None:
        """Leave the old value or the new one where a write is cancelled, and go on working."""
        state = harness.task()
        await state.aset("key", "old")
        for steps in range(8):
            async with anyio.create_task_group() as group:
                group.start_soon(state.aset, "key", ["new", steps])
                for _ in range(steps):
                    await checkpoint()
                group.cancel_scope.cancel()
            assert await state.aget("key") in ["old", ["new", steps]]
            await state.aset("key", "old")
            assert await state.aget("key") == "old"

    async def test_backend_outlives_the_store(self, harness: Harness) -> None:
        """Leave a backend open that was passed in; refuse a store that was closed."""
        async with harness.open_store() as store:
            await harness.call(store.task_state(TASK).aset, "key", 1)
            assert store.backend is harness.backend
        with pytest.raises(StoreClosedError):
            store.task_state(TASK)
        with pytest.raises(StoreClosedError):
            await harness.call(store.acleanup)
        assert await harness.call(harness.task().aget, "key") == 1
        with pytest.raises(StoreError, match="open already"):
            await harness.call(harness.store.__aenter__)

    async def test_open_and_close_are_harmless_when_repeated(self, harness: Harness) -> None:
        """Open and close again and again, and work after it."""
        call, backend = harness.call, harness.backend
        for step in (backend.aopen, backend.aopen, backend.aclose, backend.aclose, backend.aopen):
            await call(step)
        await call(backend.aset, TASK, "key", "1")
        assert await call(backend.aget, TASK, "key") == "1"

    async def test_asset_state_is_subscripted_by_assets(self, harness: Harness) -> None:
        """Refuse a subscript that is no asset; and say to subscript where no asset is declared."""
        wrong: list[Any] = ["orders", None, 5, TASK, ("orders",), Asset]
        for each in wrong:
            with pytest.raises(TypeError, match="subscripted by an Asset"):
                harness.store.asset_state[each]
        with pytest.raises(ValueError, match="subscript it"):
            await harness.call(harness.store.asset_state.aget, "key")
        assert await harness.call(harness.store.asset_state[Asset("orders")].aget, "key") is None
