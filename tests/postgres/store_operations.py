"""Operations of the store, each with what it changes, for the tests that make them fail half-way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from asyncstore import Asset, Store
from asyncstore.watchers import ClaimedWatcher
from tests.postgres.store_support import ORDERS, TASK, Kept, Looked

_AWAY = Asset("away")


@dataclass
class Bench:
    """A store, and what the operations work on."""

    store: Store
    claimed: ClaimedWatcher
    #: What was in the database before the operation.
    before: Looked

    @property
    def asset(self) -> Any:
        return self.store.asset_state[ORDERS]

    @property
    def task(self) -> Any:
        return self.store.task_state(TASK)


def plus_one(value: Any) -> Any:
    """Count."""
    return value + 1


async def bench(store: Store) -> Bench:
    """Write what the operations work on."""
    claimed = await store.aclaim_watcher(ORDERS, "watcher", owner="a test")
    made = Bench(store, claimed, Looked(Kept(), {}, 0))
    for state in (made.asset, made.task):
        await state.aset_many({"there": 0, "count": 0, "mark": -1})
    return made


Run = Callable[[Bench, int], Awaitable[Any]]
Change = Callable[[Kept, int], None]


@dataclass
class Operation:
    """An operation: what it does, what it changes, and in how many rows."""

    name: str
    run: Run
    change: Change | None = None
    rows: int = 0
    #: Done beforehand, without faults.
    prepare: Run | None = None
    #: Twice is as good as once.
    idempotent: bool = False

    def __str__(self) -> str:
        return self.name

    def after(self, kept: Kept, number: int) -> Kept:
        """Give what is kept once it is done."""
        changed = deepcopy(kept)
        if self.change is not None:
            self.change(changed, number)
        return changed


def _value(owner: str, key: str, value: Callable[[int], Any] = lambda number: number) -> Change:
    def change(kept: Kept, number: int) -> None:
        kept.values[owner, key.format(number)] = value(number)

    return change


def _more(kept: Kept, number: int) -> None:
    kept.values["orders", "count"] += 1


def _many(kept: Kept, number: int) -> None:
    kept.values |= {("orders", "there"): number, ("orders", f"m{number}"): number, ("orders", "mark"): number}


def _gone(kept: Kept, number: int) -> None:
    kept.values.pop(("orders", f"gone{number}"), None)


def _cleared(kept: Kept, number: int) -> None:
    kept.values = {place: value for place, value in kept.values.items() if place[0] != f"task{number}"}


def _registered(kept: Kept, number: int) -> None:
    kept.assets.add(f"asset{number}")


def _removed(kept: Kept, number: int) -> None:
    kept.assets.discard(f"asset{number}")


def _event(key: str | None) -> Change:
    def change(kept: Kept, number: int) -> None:
        kept.events.append((number, None if key is None else key.format(number)))
        kept.values["orders", "mark"] = number

    return change


async def _read(bench: Bench, number: int) -> None:
    assert await bench.asset.aget("there") == bench.before.kept.values["orders", "there"]


async def _read_task(bench: Bench, number: int) -> None:
    assert await bench.task.aget("there") == bench.before.kept.values["task", "there"]


async def _read_entry(bench: Bench, number: int) -> None:
    entry = await bench.asset.aget_entry("there")
    assert entry.version == bench.before.versions["orders", "there"]


async def _read_many(bench: Bench, number: int) -> None:
    found = await bench.task.aget_many(["mark", "there", "nothing"])
    assert found == {"mark": -1, "there": 0}


async def _list(bench: Bench, number: int) -> None:
    assert await bench.task.akeys() == ["count", "mark", "there"]


async def _update(bench: Bench, number: int) -> None:
    before = bench.before.kept.values["orders", "count"]
    assert await bench.asset.aupdate("count", plus_one) == before + 1


async def _advance(bench: Bench, number: int) -> None:
    assert await bench.task.aadvance("mark", number)


async def _commit(bench: Bench, number: int) -> None:
    event, duplicate = await bench.claimed.acommit(await bench.claimed.prepare(number, None, {"mark": number}))
    assert (event.payload, duplicate) == (number, False)


async def _commit_keyed(bench: Bench, number: int) -> None:
    commit = await bench.claimed.prepare(number, f"key{number}", {"mark": number})
    event, duplicate = await bench.claimed.acommit(commit)
    assert (event.payload, duplicate) == (number, False)


async def _commit_bare(bench: Bench, number: int) -> None:
    await bench.claimed.acommit(await bench.claimed.prepare(number, None, None))


async def _claim(bench: Bench, number: int) -> None:
    fence = bench.claimed.lease.fence
    bench.claimed = await bench.store.aclaim_watcher(ORDERS, "watcher", owner="a test")
    assert bench.claimed.lease.fence > fence


async def _register(bench: Bench, number: int) -> None:
    assert (await bench.store.aregister(Asset(f"asset{number}"))).name == f"asset{number}"


async def _conditional(bench: Bench, number: int) -> None:
    await bench.asset.aset("there", number, if_version=bench.before.versions["orders", "there"])


READS = [
    Operation("aget of an asset", _read),
    Operation("aget of a task", _read_task),
    Operation("aget_entry", _read_entry),
    Operation("aget_many", _read_many),
    Operation("akeys", _list),
]
WRITES = [
    Operation("aset", lambda b, n: b.asset.aset("there", n), _value("orders", "there"), 1),
    Operation("aset of a new key", lambda b, n: b.asset.aset(f"new{n}", n), _value("orders", "new{}"), 1),
    Operation("aset of a task", lambda b, n: b.task.aset("there", n), _value("task", "there"), 1),
    Operation("aset of a task's new key", lambda b, n: b.task.aset(f"new{n}", n), _value("task", "new{}"), 1),
    Operation(
        "aset of a new task",
        lambda b, n: b.store.task_state(type(TASK)("d", "r", f"task{n}")).aset("key", n),
        lambda kept, n: kept.values.update({(f"task{n}", "key"): n}),
        1,
    ),
    Operation("aset with if_version", _conditional, _value("orders", "there"), 1),
    Operation("aset if absent", lambda b, n: b.asset.aset(f"if{n}", n, if_version=0), _value("orders", "if{}"), 1),
    Operation("aset_many", lambda b, n: b.asset.aset_many({"there": n, f"m{n}": n, "mark": n}), _many, 3),
    Operation("adelete", lambda b, n: b.asset.adelete(f"gone{n}"), _gone, 1, lambda b, n: b.asset.aset(f"gone{n}", n)),
    Operation(
        "aclear",
        lambda b, n: b.store.task_state(type(TASK)("d", "r", f"task{n}")).aclear(),
        _cleared,
        1,
        lambda b, n: b.store.task_state(type(TASK)("d", "r", f"task{n}")).aset("key", n),
    ),
    Operation("aupdate", _update, _more, 1),
    Operation("aadvance", _advance, _value("task", "mark"), 1),
    Operation("aregister", _register, _registered, 1),
    Operation(
        "adelete_asset",
        lambda b, n: b.store.adelete_asset(Asset(f"asset{n}")),
        _removed,
        1,
        lambda b, n: b.store.aregister(Asset(f"asset{n}")),
    ),
    Operation("acommit", _commit, _event(None), 2),
    Operation("acommit with a key", _commit_keyed, _event("key{}"), 2),
    Operation("acommit of an event alone", _commit_bare, lambda kept, n: kept.events.append((n, None)), 1),
    Operation("aclaim_watcher", _claim, idempotent=True),
]
