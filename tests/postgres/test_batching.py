"""What is asked for at once has the outcomes and leaves the state of the same asked for one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncstore import (
    Asset,
    AssetScope,
    Clear,
    Commit,
    CommitResult,
    Delete,
    Lease,
    ManualClock,
    MetastoreBackend,
    NewEvent,
    Put,
    Scope,
    StoredEntry,
    StoreError,
    TaskScope,
    VersionConflictError,
)
from asyncstore.backends.metastore.postgresql.turns import Turn
from asyncstore.backends.metastore.postgresql.write_lane import WriteLane
from asyncstore.clock import from_microseconds

KEYS = ["a", "b", "é"]
#: What a plan speaks of; each side has its own.
TASKS = ["task", "task 0", "other"]
ASSETS = ["orders", "report", "resting", "deleted"]
WATCHERS = ["orders", "orders lost", "report", "resting", "deleted"]
SECOND = timedelta(seconds=1)


# Plans, in words that hold for both sides.


@dataclass(frozen=True)
class Change:
    kind: str  # "put", "delete", "clear" or "clear all"
    place: str
    key: str
    value: str
    expires: int | None  # seconds from when the plan is carried out
    if_version: str | None  # "absent", "wrong", or "known": what the plan found


@dataclass(frozen=True)
class Write:
    changes: tuple[Change, ...]
    events: tuple[tuple[str, str | None], ...]
    watcher: str | None
    by: str | None


@dataclass(frozen=True)
class Read:
    kind: str  # "get", "get_entry", "get_many" or "list_keys"
    place: str
    key: str


places = st.sampled_from(TASKS * 3 + ASSETS[:2] * 3 + ASSETS[2:])
keys = st.sampled_from(KEYS)
changes = st.builds(
    Change,
    st.sampled_from(["put"] * 7 + ["delete"] * 3 + ["clear", "clear all"]),
    places,
    keys,
    st.integers(0, 999).map(str),
    st.sampled_from([None, None, None, -1, 0, 1]),
    st.sampled_from([None] * 6 + ["known", "known", "absent", "wrong"]),
)
events = st.lists(st.tuples(st.integers(0, 99).map(str), st.none() | st.sampled_from(["one", "two"])), max_size=2).map(
    tuple
)
watched = st.builds(
    Write,
    st.lists(changes, max_size=2).map(tuple),
    events,
    st.sampled_from(WATCHERS[:1] * 3 + WATCHERS),
    st.sampled_from([None, "writer"]),
)
plain = st.builds(
    Write,
    st.lists(changes, min_size=1, max_size=3).map(tuple) | changes.map(lambda change: (change,)),
    st.just(()),
    st.none(),
    st.sampled_from([None, "writer"]),
)
reads = st.builds(Read, st.sampled_from(["get"] * 3 + ["get_entry", "get_many", "list_keys"]), places, keys)
plans = st.lists(plain | plain | watched | reads, min_size=2, max_size=14)
starts = st.lists(changes.map(lambda change: replace(change, if_version=None)), max_size=6)


# The two sides.


class Side:
    """Carries out plans on task instances and assets of its own."""

    def __init__(self, backend: MetastoreBackend, name: str, now: int) -> None:
        self.backend = backend
        self._name = name
        self._now = now
        self._scopes: dict[str, Scope] = {
            "task": TaskScope(name, "run", "task"),
            "task 0": TaskScope(name, "run", "task", 0),
            "other": TaskScope(name, "run", "other"),
        }
        self._leases: dict[str, Lease] = {}
        self._known: dict[tuple[str, str], int] = {}
        self._writers: dict[int, str] = {0: "nobody"}
        self.versions: dict[tuple[str, str], list[int]] = {}

    async def prepare(self, start: Sequence[Change]) -> None:
        backend = self.backend
        for name in ASSETS:
            scope = await backend.aregister_asset(Asset(f"{self._name} {name}"))
            self._scopes[name] = AssetScope(scope.asset_id)
            self._leases[name] = await backend.aclaim_watcher(scope, "watcher", owner="test")
        self._leases["orders lost"] = self._leases["orders"]
        self._leases["orders"] = await backend.aclaim_watcher(self._leases["orders"].asset, "watcher", owner="again")
        for number, change in enumerate(start):
            if change.place in ASSETS[:2] or change.place in TASKS:
                await self._run(Write((change,), (), None, None), f"start {number}")
        for place in [*TASKS, *ASSETS]:
            for key in KEYS:
                entry = await backend.aget_entry(self._scopes[place], key)
                self._known[place, key] = 0 if entry is None else entry.version
        await backend.adeactivate_asset(self._leases["resting"].asset)
        await backend.adelete_asset(self._leases["deleted"].asset)

    def _change(self, change: Change) -> Put | Delete | Clear:
        scope = self._scopes[change.place]
        if change.kind == "put":
            moment = None if change.expires is None else from_microseconds(self._now) + change.expires * SECOND
            versions = {None: None, "known": self._known.get((change.place, change.key)), "absent": 0, "wrong": 10**15}
            expires_at = moment if isinstance(scope, TaskScope) else None
            return Put(scope, change.key, change.value, expires_at, versions[change.if_version])
        return Delete(scope, change.key) if change.kind == "delete" else Clear(scope, change.kind == "clear all")

    async def _run(self, write: Write, name: str) -> Any:
        lease = None if write.watcher is None else self._leases[write.watcher]
        asked = tuple(self._change(change) for change in write.changes)
        noted = tuple(NewEvent(payload, key) for payload, key in write.events)
        made = await self.backend.acommit(Commit(asked, noted, lease, write.by))
        for number, (change, version) in enumerate(zip(write.changes, made.versions, strict=True)):
            assert (version > 0) is (change.kind == "put")
            if version:
                self._writers[version] = f"{name}, {number}"
                self.versions.setdefault((change.place, change.key), []).append(version)
        return made

    def _read(self, read: Read) -> Awaitable[Any]:
        scope = self._scopes[read.place]
        if read.kind == "get_many":
            return self.backend.aget_many(scope, KEYS)
        if read.kind == "list_keys":
            return self.backend.alist_keys(scope)
        return (self.backend.aget if read.kind == "get" else self.backend.aget_entry)(scope, read.key)

    async def run(self, step: Write | Read, name: str) -> Any:
        """Carry out a step of a plan; gives its outcome, to be told with `tell` when all is done."""
        try:
            return await (self._read(step) if isinstance(step, Read) else self._run(step, name))
        except StoreError as error:
            return error

    def tell(self, outcome: Any) -> Any:
        """Say an outcome in words that hold for both sides."""
        if isinstance(outcome, VersionConflictError):
            expected = outcome.expected if outcome.expected == 10**15 else self._writers[outcome.expected]
            # One that it wrote itself, a change before, is undone with it.
            return "conflict", outcome.key, expected, self._writers.get(outcome.actual, "itself")
        if isinstance(outcome, StoreError):
            return type(outcome), str(outcome).count("fence")
        if isinstance(outcome, CommitResult):
            return "made", len(outcome.versions), [event.duplicate for event in outcome.events]
        if isinstance(outcome, StoredEntry):
            return replace(outcome, version=0), self._writers[outcome.version]
        return outcome

    async def state(self) -> Any:
        """Say what is there in the end."""
        found: dict[str, Any] = {}
        for place in [*TASKS, *ASSETS[:2]]:
            entries = {key: await self.backend.aget_entry(self._scopes[place], key) for key in KEYS}
            found[place] = {key: self.tell(entry) for key, entry in entries.items()}
            found[f"{place} keys"] = await self.backend.alist_keys(self._scopes[place])
        for name in ASSETS[:2]:
            listed = await self.backend.alist_events(self._leases[name].asset)
            found[f"{name} events"] = [(event.payload, event.key) for event in listed]
        return found

    def orders(self, names: Sequence[str]) -> dict[tuple[str, str], list[str]]:
        """Say in which order each key was written, by its versions."""
        return {at: [self._writers[version] for version in sorted(found)] for at, found in self.versions.items()}


def sure(plan: Sequence[Write | Read]) -> list[Write | Read]:
    """Leave out reads with no write of their place before them: they need not wait for what comes later."""
    found: list[Write | Read] = []
    touched: set[str] = set()
    for step in plan:
        if isinstance(step, Read):
            if step.place not in touched or (step.kind.startswith("get") and not _certain(found, step)):
                continue
        else:
            for change in step.changes:
                touched.add(change.place)
        found.append(step)
    return found


def _certain(before: Sequence[Write | Read], read: Read) -> bool:
    if read.kind == "get_many":
        return True
    return any(
        change.place == read.place and (change.key == read.key or change.kind.startswith("clear"))
        for step in before
        if isinstance(step, Write)
        for change in step.changes
    )


def test_together_as_one_after_the_other(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    sizes: list[int] = []
    count = 0
    send: Callable[[WriteLane, list[Turn]], None] = WriteLane.send

    def counted(self: WriteLane, batch: list[Turn]) -> None:
        sizes.append(len(batch))
        send(self, batch)

    monkeypatch.setattr(WriteLane, "send", counted)

    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())
        backend = MetastoreBackend(database_url, clock=clock)
        stack.callback(lambda: runner.run(backend.aclose()))

        @settings(max_examples=120, deadline=None, derandomize=True, database=None)
        @given(starts, plans)
        def compare(start: list[Change], plan: list[Write | Read]) -> None:
            nonlocal count
            count += 1
            steps = sure(plan)
            clock.advance(SECOND)
            runner.run(both(backend, clock, f"example {count}", start, steps))

        compare()
    assert max(sizes) > 8
    assert sum(size > 1 for size in sizes) > 50


async def both(
    backend: MetastoreBackend, clock: ManualClock, name: str, start: Sequence[Change], steps: Sequence[Write | Read]
) -> None:
    now = clock.microseconds()
    together, alone = (Side(backend, f"{name}, {side}", now) for side in ("together", "alone"))
    await together.prepare(start)
    await alone.prepare(start)
    at_once = await asyncio.gather(*(together.run(step, f"{number}") for number, step in enumerate(steps)))
    in_turn = [await alone.run(step, f"{number}") for number, step in enumerate(steps)]
    assert [together.tell(each) for each in at_once] == [alone.tell(each) for each in in_turn]
    assert together.orders(TASKS) == alone.orders(TASKS)
    assert await together.state() == await alone.state()
