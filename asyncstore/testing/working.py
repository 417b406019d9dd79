"""What a worker-side backend promises, whichever way it keeps values."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, ClassVar

import pytest

from ..backends.memory import MemoryBackend
from ..errors import BrokenReferenceError, UnsupportedOperationError
from ..offload.layer import OffloadingCore
from ..offload.stored import Reference, is_reference
from ..scopes import Asset, TaskScope
from ..settings import Settings, WorkersSettings
from ..store import Store, connect
from .calling import Caller, Way
from .harness import TASK, awaited

__all__ = ["WorkerBackendConformance"]

_SECRET = "a value that must not be in the store"  # noqa: S105 - none
_ORDERS = Asset("orders/é", uri="s3://orders")
_KEYS = ["key", "Key", "a/b", "..", "é😀", "a\\b", "k" * 512, "%2F", " "]
_VALUES: list[Any] = [
    *("text", "", "é😀\u2028\0", 0, -1, 1.5, 1e300, True, False, [], {}, 2**70),
    *([1, [2, None]], {"b": [1], "a": {"é": None}}, "x" * 100_000, list(range(10_000))),
]


def _next(before: int) -> int:
    return before + 1


class WorkerBackendConformance:
    """Hold a worker-side backend to what every one promises; subclass it, and say which class it is.

    ::

        class TestMine(WorkerBackendConformance):
            state_backend = "package.module.Class"

    Overrides of `lose` and `make_settings` are optional.
    """

    #: The dotted path of the class.
    state_backend: ClassVar[str]

    pytestmark: ClassVar[pytest.MarkDecorator] = pytest.mark.anyio

    def make_settings(self) -> Settings:
        """Give the options of the store; override to configure more than the class."""
        return Settings(workers=WorkersSettings(state_backend=self.state_backend))

    async def lose(self, reference: str) -> bool:
        """Remove what a reference leads to, behind the backend's back.

        :param reference: what the hook gave; with immutable objects, the path of the object.
        :return: whether it was done; without an override, the test of broken references is skipped.
        """
        return False

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Give the event loop that the tests run on."""
        return "asyncio"

    @pytest.fixture(params=[Way.AWAIT, Way.THREAD, Way.LOOP], ids=str)
    def way(self, request: pytest.FixtureRequest) -> Way:
        """Give each way of calling."""
        way: Way = request.param
        return way

    @pytest.fixture
    async def call(self, way: Way) -> AsyncGenerator[Caller]:
        """Call operations in a way."""
        call = Caller(way)
        yield call
        call.close()

    @pytest.fixture
    async def store(self, call: Caller) -> AsyncGenerator[Store]:
        """Give a store whose values the backend keeps."""
        store = connect(backend=MemoryBackend(), settings=self.make_settings())
        await call(store.__aenter__)
        yield store
        await call(store.__aexit__, None, None, None)

    @staticmethod
    def _is_immutable(store: Store) -> bool:
        core = store.core
        assert isinstance(core, OffloadingCore)
        return core.keeper.immutable

    async def test_values_come_back_as_they_were(self, store: Store, call: Caller) -> None:
        """Give back every JSON value, of tasks and of assets, and the latest of several."""
        states: list[Any] = [store.task_state(TASK), store.asset_state[_ORDERS]]
        for state in states:
            for value in _VALUES:
                await call(state.aset, "key", value)
                found = await call(state.aget, "key")
                assert found == value
                assert type(found) is type(value)

    async def test_keys_and_owners_do_not_meet(self, store: Store, call: Caller) -> None:
        """Tell any two keys, task instances and assets apart."""
        states: list[Any] = [
            store.task_state(TASK),
            store.task_state(TaskScope("dag", "run", "task", 0)),
            store.task_state(TaskScope("dag", "run/task", "x")),
            store.task_state(TaskScope("assets", "orders/é", "key")),
            store.asset_state[_ORDERS],
            store.asset_state[Asset("orders")],
        ]
        for number, state in enumerate(states):
            for key in _KEYS:
                await call(state.aset, key, f"{number} {key}")
        for number, state in enumerate(states):
            assert await call(state.aget_many, _KEYS) == {key: f"{number} {key}" for key in _KEYS}

    async def test_the_store_holds_no_value(self, store: Store, call: Caller) -> None:
        """Hold a short reference in the row, which does not depend on the value."""
        state = store.task_state(TASK)
        found: list[str] = []
        for value in (_SECRET, [_SECRET] * 10_000):
            await call(state.aset, "key", value)
            row = await call(store.backend.aget, TASK, "key")
            assert row is not None
            assert is_reference(row)
            assert _SECRET not in row
            assert len(row) < 4000
            found.append(Reference.parse(row).at)
        assert found[0] == found[1]

    async def test_what_is_deleted_is_absent(self, store: Store, call: Caller) -> None:
        """Give nothing where a key was deleted or its scope was cleared, and then a new value."""
        states: list[Any] = [store.task_state(TASK), store.asset_state[_ORDERS]]
        for state in states:
            await call(state.aset, "key", 1)
            await call(state.adelete, "key")
            assert await call(state.aget, "key") is None
            await call(state.aset, "key", 2)
            await call(state.aclear)
            assert await call(state.aget, "key") is None
            await call(state.aset, "key", 3)
            assert await call(state.aget, "key") == 3

    async def test_bad_values_change_nothing(self, store: Store, call: Caller) -> None:
        """Keep the old value where the new one is refused."""
        state = store.task_state(TASK)
        await call(state.aset, "key", "old")
        for value in (None, {1}, float("nan"), {1: 2}, "\ud800", [0] * 10_000 + [{1}]):
            with pytest.raises((TypeError, ValueError)):
                await call(state.aset, "key", value)
        assert await call(state.aget, "key") == "old"

    async def test_conditional_writes_work_or_are_refused(self, store: Store, call: Caller) -> None:
        """Do what needs immutable objects, or say that it cannot be done; and change nothing then."""
        state = store.task_state(TASK)
        await call(state.aset, "key", 1)
        operations: list[tuple[Any, ...]] = [
            (state.aset_many, {"key": 2}),
            (state.aupdate, "key", _next),
            (state.aadvance, "key", 10),
        ]
        for operation in operations:
            if self._is_immutable(store):
                await call(*operation)
            else:
                with pytest.raises(UnsupportedOperationError):
                    await call(*operation)
        assert await call(state.aget, "key") == (10 if self._is_immutable(store) else 1)

    @awaited
    async def test_several_at_once(self, store: Store) -> None:
        """Keep and give back several values at the same time."""
        state = store.task_state(TASK)
        await asyncio.gather(*(state.aset(f"key {number}", [number] * 100) for number in range(20)))
        found = await asyncio.gather(*(state.aget(f"key {number}") for number in range(20)))
        assert found == [[number] * 100 for number in range(20)]

    @awaited
    async def test_the_event_loop_is_not_held(self, store: Store) -> None:
        """Leave the event loop to others while a large value is kept and given back."""
        state = store.task_state(TASK)
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        counting = asyncio.create_task(count())
        await state.aset("key", ["x" * 1000] * 1000)
        written, turns = turns, 0
        await state.aget("key")
        assert min(written, turns) > 3
        counting.cancel()

    @awaited
    async def test_what_is_lost_is_broken_and_the_next_set_repairs_it(self, store: Store) -> None:
        """Say that a value is gone, where it was removed behind the backend's back; never that it is absent."""
        state = store.task_state(TASK)
        await state.aset("key", 1)
        row = await store.backend.aget(TASK, "key")
        assert row is not None
        reference = Reference.parse(row)
        path = f"{reference.at}/{reference.digest}" if self._is_immutable(store) else reference.at
        if not await self.lose(path):
            pytest.skip("lose is not overridden")
        with pytest.raises(BrokenReferenceError, match="'key'"):
            await state.aget("key")
        await state.aset("key", 2)
        assert await state.aget("key") == 2
