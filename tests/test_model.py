"""Each backend against a dict."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,  # pyright: ignore[reportUnknownVariableType]
)

from asyncstore import (
    NEVER_EXPIRE,
    Asset,
    AssetStoreAccessor,
    BaseStoreBackend,
    Capability,
    ManualClock,
    MemoryBackend,
    MetastoreBackend,
    Settings,
    Store,
    TaskScope,
    TaskStoreAccessor,
    VersionConflictError,
    connect,
)
from tests.conformance.backends import MinimalBackend, UntimedBackend

SECOND = timedelta(seconds=1)
DEFAULT = timedelta(days=30)
TASKS = [TaskScope("dag", "run", "task", index) for index in (-1, 0, 1)] + [TaskScope("dag", "run", "other")]
ASSETS = [Asset("orders"), Asset("report")]
PLACES: list[TaskScope | Asset] = [*TASKS, *ASSETS]

#: Few, so that they meet: prefixes of each other, wildcards, and the edges of code point order.
KEYS = ["a", "ab", "b", "a%", "a_", "%", "é", "\uffff", "\U00010000"]
keys = st.sampled_from(KEYS)
places = st.sampled_from(PLACES)
tasks = st.sampled_from(TASKS)
values = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner | st.none(), max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
retentions = st.none() | st.just(NEVER_EXPIRE) | st.integers(1, 5).map(lambda seconds: seconds * SECOND)

State = TaskStoreAccessor | AssetStoreAccessor
Place = TaskScope | Asset


@dataclass
class Row:
    value: Any
    expires_at: int | None
    version: int = 0


class Model(RuleBasedStateMachine):
    """The rules; a subclass says which backend."""

    make: ClassVar[Callable[[ManualClock, ExitStack], BaseStoreBackend]]

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.rows: dict[tuple[Place, str], Row] = {}
        self.last = 0
        self.exits = ExitStack()
        self.runner = self.exits.enter_context(asyncio.Runner())
        self.backend = type(self).make(self.clock, self.exits)
        self.store: Store = connect(backend=self.backend, settings=Settings(), clock=self.clock)
        self.exits.enter_context(self.store)
        self.exits.callback(lambda: self.runner.run(self.backend.aclose()))
        self.can = {each: each in self.backend.capabilities for each in Capability}

    def teardown(self) -> None:
        self.exits.close()

    # Both sides.

    def run(self, sync: bool, operation: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
        """Call the coroutine on a loop, or its sync twin without one."""
        if sync:
            twin = getattr(operation.__self__, operation.__name__.removeprefix("a"))  # type: ignore[attr-defined]
            return twin(*args, **kwargs)

        async def call() -> Any:
            return await operation(*args, **kwargs)

        return self.runner.run(call())

    def state(self, place: Place) -> State:
        return self.store.task_state(place) if isinstance(place, TaskScope) else self.store.asset_state[place]

    def fresh(self, place: Place, key: str) -> Row | None:
        row = self.rows.get((place, key))
        if row is None or (row.expires_at is not None and row.expires_at <= self.clock.microseconds()):
            return None
        return row

    def put(self, place: Place, key: str, value: Any, retention: timedelta | None) -> None:
        kept = DEFAULT if retention is None else retention
        never = kept == NEVER_EXPIRE or isinstance(place, Asset)
        expires_at = None if never else self.clock.microseconds() + kept // timedelta(microseconds=1)
        self.rows[place, key] = Row(value, expires_at)
        if self.can[Capability.ENTRIES]:
            entry = self.state(place).get_entry(key)
            assert entry is not None
            # A revision of the whole store: larger than any before it, of any key.
            assert entry.version > self.last
            self.rows[place, key].version = self.last = entry.version

    def options(self, place: Place, retention: timedelta | None) -> dict[str, Any]:
        return {"retention": retention} if isinstance(place, TaskScope) else {}

    def version(self, place: Place, key: str) -> int:
        row = self.fresh(place, key)
        return 0 if row is None else row.version

    # Writes.

    @initialize(place=places, key=keys)
    def begin(self, place: Place, key: str) -> None:
        assert self.state(place).get(key, "absent") == "absent"

    @rule(place=places, key=keys, value=values, retention=retentions, sync=st.booleans())
    def set(self, place: Place, key: str, value: Any, retention: timedelta | None, sync: bool) -> None:
        self.run(sync, self.state(place).aset, key, value, **self.options(place, retention))
        self.put(place, key, value, retention)

    @precondition(lambda self: self.can[Capability.COMMIT])
    @rule(place=places, batch=st.dictionaries(keys, values, max_size=4), retention=retentions, sync=st.booleans())
    def set_many(self, place: Place, batch: dict[str, Any], retention: timedelta | None, sync: bool) -> None:
        before = self.last
        self.run(sync, self.state(place).aset_many, batch, **self.options(place, retention))
        versions: list[int] = []
        for key, value in batch.items():
            self.last = before  # the order of versions in one commit is the backend's
            self.put(place, key, value, retention)
            versions.append(self.last)
        assert len(set(versions)) == len(versions)
        self.last = max(versions, default=before)

    @rule(place=places, key=keys, sync=st.booleans())
    def delete(self, place: Place, key: str, sync: bool) -> None:
        self.run(sync, self.state(place).adelete, key)
        self.rows.pop((place, key), None)

    @rule(place=places, sync=st.booleans())
    def clear(self, place: Place, sync: bool) -> None:
        self.run(sync, self.state(place).aclear)
        self.rows = {at: row for at, row in self.rows.items() if at[0] != place}

    @rule(task=tasks, sync=st.booleans())
    def clear_all_map_indices(self, task: TaskScope, sync: bool) -> None:
        self.run(sync, self.store.task_state(task).aclear, all_map_indices=True)
        gone = [each for each in TASKS if each.task_id == task.task_id]
        self.rows = {at: row for at, row in self.rows.items() if at[0] not in gone}

    @precondition(lambda self: self.can[Capability.COMMIT])
    @rule(place=places, key=keys, value=values, off=st.sampled_from([0, 0, None, 1]), sync=st.booleans())
    def set_if_version(self, place: Place, key: str, value: Any, off: int | None, sync: bool) -> None:
        actual = self.version(place, key)
        expected = 0 if off is None else actual + off
        write = partial(self.run, sync, self.state(place).aset, key, value, if_version=expected)
        if expected == actual:
            write()
            self.put(place, key, value, None)
        else:
            with pytest.raises(VersionConflictError) as conflict:
                write()
            assert (conflict.value.expected, conflict.value.actual) == (expected, actual)

    @precondition(lambda self: self.can[Capability.COMMIT])
    @rule(place=places, key=keys, retention=retentions, sync=st.booleans())
    def update(self, place: Place, key: str, retention: timedelta | None, sync: bool) -> None:
        row = self.fresh(place, key)
        expected = [["start"] if row is None else row.value]
        options = {"default": ["start"], **self.options(place, retention)}
        assert self.run(sync, self.state(place).aupdate, key, wrap, **options) == expected
        self.put(place, key, expected, retention)

    @precondition(lambda self: self.can[Capability.COMMIT])
    @rule(place=places, key=keys, value=st.integers(0, 5), sync=st.booleans())
    def advance(self, place: Place, key: str, value: int, sync: bool) -> None:
        row = self.fresh(place, key)
        advance = partial(self.run, sync, self.state(place).aadvance, key, value)
        if row is not None and (isinstance(row.value, bool) or not isinstance(row.value, int | float)):
            with pytest.raises(TypeError):
                advance()
            return
        moves = row is None or bool(value > row.value)
        assert advance() is moves
        if moves:
            self.put(place, key, value, None)

    @rule(by=st.sampled_from([SECOND, SECOND, 2 * SECOND, 3 * SECOND, DEFAULT / 2]), early=st.booleans())
    def let_pass(self, by: timedelta, early: bool) -> None:
        self.clock.advance(by - timedelta(microseconds=early))

    @precondition(lambda self: self.can[Capability.CLEANUP])
    @rule(sync=st.booleans())
    def cleanup(self, sync: bool) -> None:
        expired = [at for at in self.rows if self.fresh(*at) is None]
        assert self.run(sync, self.store.acleanup, dry_run=True).deleted == len(expired)
        assert self.run(sync, self.store.acleanup).deleted == len(expired)
        for at in expired:
            del self.rows[at]

    @precondition(lambda self: self.can[Capability.CLEANUP])
    @rule(sync=st.booleans())
    def delete_run(self, sync: bool) -> None:
        gone = [at for at in self.rows if isinstance(at[0], TaskScope)]
        assert self.run(sync, self.store.adelete_run, "dag", "run") == len(gone)
        for at in gone:
            del self.rows[at]

    # Reads.

    @rule(place=places, key=keys, sync=st.booleans())
    def get(self, place: Place, key: str, sync: bool) -> None:
        row = self.fresh(place, key)
        expected = "absent" if row is None else row.value
        assert repr(self.run(sync, self.state(place).aget, key, "absent")) == repr(expected)

    @precondition(lambda self: self.can[Capability.ENTRIES])
    @rule(place=places, key=keys, sync=st.booleans())
    def get_entry(self, place: Place, key: str, sync: bool) -> None:
        row = self.fresh(place, key)
        entry = self.run(sync, self.state(place).aget_entry, key)
        if row is None:
            assert entry is None
        else:
            assert (repr(entry.value), entry.version) == (repr(row.value), row.version)
            assert (entry.expires_at is None) is (row.expires_at is None)

    @precondition(lambda self: self.can[Capability.LISTING])
    @rule(place=places, prefix=keys | st.just(""), sync=st.booleans())
    def list_keys(self, place: Place, prefix: str, sync: bool) -> None:
        expected = [key for key in KEYS if key.startswith(prefix) and self.fresh(place, key) is not None]
        assert self.run(sync, self.state(place).akeys, prefix) == sorted(expected)

    @invariant()
    def every_key_is_as_in_the_model(self) -> None:
        found = self.runner.run(self.read())
        for place in PLACES:
            expected = {key: row.value for key in KEYS if (row := self.fresh(place, key)) is not None}
            assert repr(found[place]) == repr(expected), place

    async def read(self) -> dict[Place, dict[str, Any]]:
        return {place: await self.state(place).aget_many(KEYS) for place in PLACES}


def wrap(value: Any) -> Any:
    return [value]


def memory(clock: ManualClock, exits: ExitStack) -> BaseStoreBackend:
    return MemoryBackend(clock=clock)


def sqlite_file(clock: ManualClock, exits: ExitStack) -> BaseStoreBackend:
    folder = exits.enter_context(tempfile.TemporaryDirectory())
    return MetastoreBackend(f"sqlite+aiosqlite:///{Path(folder) / 'store.db'}", durability="normal", clock=clock)


def sqlite_in_memory(clock: ManualClock, exits: ExitStack) -> BaseStoreBackend:
    return MetastoreBackend("sqlite+aiosqlite:///:memory:", clock=clock)


def minimal(clock: ManualClock, exits: ExitStack) -> BaseStoreBackend:
    return MinimalBackend()


def untimed(clock: ManualClock, exits: ExitStack) -> BaseStoreBackend:
    return UntimedBackend(clock)


@pytest.mark.parametrize(
    ("make", "examples"),
    [(memory, 60), (sqlite_file, 15), (sqlite_in_memory, 15), (minimal, 25), (untimed, 25)],
    ids=lambda each: getattr(each, "__name__", "") or str(each),
)
def test_against_a_dict(make: Callable[[ManualClock, ExitStack], BaseStoreBackend], examples: int) -> None:
    machine = type("Machine", (Model,), {"make": staticmethod(make)})
    checks = settings(max_examples=examples, stateful_step_count=40, deadline=None, derandomize=True, database=None)
    run_state_machine_as_test(machine, settings=checks)
