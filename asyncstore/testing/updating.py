"""Contract of read-modify-write: no update is lost, and a watermark never moves back."""

from __future__ import annotations

import random
import threading
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from ..abc import Capability
from ..accessors.base import Update
from .calling import Way
from .harness import ConformanceBase, Harness, requires

__all__ = ["UpdateConformance"]

VERSIONS = Capability.ENTRIES | Capability.COMMIT
CROWD = 4
#: Seconds after which a barrier gives up.
PATIENCE = 20


class _Meeting:
    """Let every member of a crowd read before any of them writes."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._arrived = 0
        self._everybody = anyio.Event()
        self._threads = threading.Barrier(size, timeout=PATIENCE)

    def sync_adder(self, *, wait: bool) -> Update:
        first = wait

        def add(before: Any) -> Any:
            nonlocal first
            if first:
                first = False
                self._threads.wait()
            return before + 1

        return add

    def async_adder(self) -> Update:
        first = True

        async def add(before: Any) -> Any:
            nonlocal first
            if first:
                first = False
                self._arrived += 1
                if self._arrived == self._size:
                    self._everybody.set()
                await self._everybody.wait()
            await checkpoint()
            return before + 1

        return add


class UpdateConformance(ConformanceBase):
    """Hold a backend to `aupdate` and `aadvance`."""

    @requires(VERSIONS)
    async def test_update(self, harness: Harness) -> None:
        """Give the function the value, or the default, and store what it returns."""
        call = harness.call
        for state in (harness.task(), harness.asset()):
            assert await call(state.aupdate, "key", lambda before: [before]) == [None]
            assert await call(state.aget, "key") == [None]
            assert await call(state.aupdate, "key", lambda before: [*before, 1], default=["default"]) == [None, 1]
            assert await call(state.aupdate, "other", lambda before: {**before, "b": 2}, default={"a": 1}) == {
                "a": 1,
                "b": 2,
            }
            assert await call(state.aget_many, ["key", "other"]) == {"key": [None, 1], "other": {"a": 1, "b": 2}}

    @requires(VERSIONS)
    async def test_update_functions_may_change_what_they_get(self, harness: Harness) -> None:
        """Give the function a value of its own, which is neither the default nor what is stored."""
        call, state, default = harness.call, harness.task(), ["default"]

        def change(before: Any) -> Any:
            before.append(len(before))
            return before

        for length in (2, 3, 4):
            assert await call(state.aupdate, "key", change, default=default) == ["default", *range(1, length)]
        assert default == ["default"]

    @requires(VERSIONS)
    async def test_update_that_fails_changes_nothing(self, harness: Harness) -> None:
        """Keep the old value where the function raises, or returns what cannot be stored."""
        call = harness.call
        no_json: Any = {1, 2}
        for state in (harness.task(), harness.asset()):
            await call(state.aset, "key", {"old": 1}, if_version=0)

            def fail(before: Any) -> Any:
                before["old"] = 2
                raise KeyError("on purpose")

            with pytest.raises(KeyError, match="on purpose"):
                await call(state.aupdate, "key", fail)
            with pytest.raises(ValueError, match="None"):
                await call(state.aupdate, "key", lambda _: None)
            with pytest.raises(TypeError, match="set"):
                await call(state.aupdate, "key", lambda _: no_json)
            with pytest.raises(ValueError, match="65535"):
                await call(state.aupdate, "key", lambda _: "x" * 65_534)
            assert await call(state.aget, "key") == {"old": 1}

    @requires(VERSIONS)
    async def test_update_with_an_async_function(self, harness: Harness) -> None:
        """Await an async function, and refuse one where nothing can be awaited."""
        state = harness.task()
        await harness.call(state.aset, "key", 1, if_version=0)

        async def add(before: Any) -> Any:
            await checkpoint()
            return before + 1

        if harness.way is Way.AWAIT:
            assert await state.aupdate("key", add) == 2
        else:
            with pytest.raises(TypeError, match="await aupdate"):
                await harness.call(state.aupdate, "key", add)
            assert await state.aget("key") == 1

    @requires(VERSIONS)
    async def test_no_update_is_lost(self, harness: Harness) -> None:
        """Count every one of those that read the same value at once."""
        for state in (harness.task(), harness.asset()):
            await harness.call(state.aset, "key", 0, if_version=0)
            meeting = _Meeting(CROWD)

            async def add(function: Update, state: Any = state) -> None:
                await harness.call(state.aupdate, "key", function)

            async with anyio.create_task_group() as group:
                for _ in range(CROWD):
                    together = harness.way in {Way.THREAD, Way.WORKER}
                    way = meeting.async_adder() if harness.way is Way.AWAIT else meeting.sync_adder(wait=together)
                    group.start_soon(add, way)
            assert await state.aget("key") == CROWD

    @requires(VERSIONS)
    async def test_no_update_is_lost_beside_other_writes(self, harness: Harness) -> None:
        """Take a deletion between the reading and the writing for what it is."""
        state = harness.task()
        await harness.call(state.aset, "key", 10, if_version=0)
        seen: list[Any] = []

        def add(before: Any) -> Any:
            seen.append(before)
            if len(seen) == 1:
                state.delete("key")
            return before + 1

        if harness.way in {Way.AWAIT, Way.LOOP}:

            async def delete_and_add(before: Any) -> Any:
                seen.append(before)
                if len(seen) == 1:
                    await state.adelete("key")
                return before + 1

            assert await state.aupdate("key", delete_and_add, default=0) == 1
        else:
            assert await harness.call(state.aupdate, "key", add, default=0) == 1
        assert seen == [10, 0]

    @requires(VERSIONS)
    async def test_advance(self, harness: Harness) -> None:
        """Write a greater value, and say whether it was."""
        call = harness.call
        for state in (harness.task(), harness.asset()):
            for value, moved in (
                (1, True),
                (1, False),
                (0, False),
                (1.5, True),
                (1.25, False),
                (2, True),
                (2.0, False),
            ):
                assert await call(state.aadvance, "number", value) is moved
            assert await call(state.aget, "number") == 2
            texts = [("Z", True), ("a", True), ("B", False), ("", False), ("é", True), ("z", False), ("\uffff", True)]
            for text, moved in (*texts, ("\U00010000", True), ("\ue000", False), ("\U00010000", False)):
                assert await call(state.aadvance, "text", text) is moved
            assert await call(state.aget, "text") == "\U00010000"

    @requires(VERSIONS)
    async def test_advance_refuses_what_has_no_order(self, harness: Harness) -> None:
        """Refuse a mix of kinds, and what is neither a number nor a string."""
        call, state = harness.call, harness.task()
        await call(state.aset_many, {"number": 1, "text": "a", "list": [1], "bool": True, "float": 0.5})
        mixed: list[tuple[str, Any]] = [("number", "2"), ("text", 1), ("list", 2), ("list", "a"), ("bool", 2)]
        mixed += [("number", True), ("number", None), ("number", [2]), ("new", {"a": 1}), ("new", False), ("new", None)]
        for key, value in mixed:
            with pytest.raises(TypeError, match="watermark"):
                await call(state.aadvance, key, value)
        for value in (float("nan"), float("inf")):
            with pytest.raises(ValueError, match="JSON"):
                await call(state.aadvance, "float", value)
        expected = {"number": 1, "text": "a", "list": [1], "bool": True, "float": 0.5}
        assert await call(state.aget_many, [*expected, "new"]) == expected

    @requires(VERSIONS)
    async def test_advance_never_moves_back(self, harness: Harness) -> None:
        """End at the greatest of the values that come at once."""
        state = harness.asset()
        assert await harness.call(state.aadvance, "watermark", 0)
        values = random.Random(1).sample(range(1, 13), 12)  # noqa: S311 - any order does
        moved: list[int] = []

        async def advance(value: int) -> None:
            if await harness.call(state.aadvance, "watermark", value):
                moved.append(value)

        async with anyio.create_task_group() as group:
            for value in values:
                group.start_soon(advance, value)
        assert max(moved) == 12
        assert await state.aget("watermark") == 12
