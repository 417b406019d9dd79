"""Measure what thousands of idle watchers cost: start, memory, questions to the database, a takeover."""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, cast

import anyio

from asyncstore import Asset, MetastoreBackend, Settings, Store, TriggererSettings, WatcherRecord, connect
from triggers import AssetWatcher, BaseEventTrigger, Triggerer, TriggerEvent

from ..databases.sites import Site, upgrade
from ..progress import Progress
from ..report.model import SectionReport, Table
from .abc import Run

__all__ = ["Idle", "fleet", "settings", "watched"]

_LEASE = 2.0
_BEAT = 0.4
_SHARED = 200
_PATIENCE = 120.0


class Idle(BaseEventTrigger):
    """Looks at its watermark, and then waits."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for what never comes."""
        await self.asset_state.aget("watermark")
        await anyio.sleep_forever()
        yield TriggerEvent()


def watched(count: int) -> list[Asset]:
    """Give assets with an idle watcher each."""
    return [Asset(f"asset {number}", watchers=[AssetWatcher("idle", Idle())]) for number in range(count)]


@dataclass(frozen=True, slots=True)
class Cost:
    """Hold what so many watchers cost.

    :ivar start: seconds until all of them run.
    :ivar stop: seconds until all of them are given back.
    :ivar calls: calls of the store a second for all of them while nothing happens.
    :ivar memory: bytes each; 0 where it was not traced.
    """

    start: float
    stop: float
    calls: float
    memory: float


def fleet(run: Run, site: Site) -> SectionReport:
    """Measure on one database."""
    progress = Progress(f"fleet, {site.title}")
    url = run.runner.run(site.make("fleet"))
    run.runner.run(upgrade(url))
    report = SectionReport("fleet")
    found: dict[str, Any] = {}
    rows: list[tuple[str, ...]] = []
    for count in run.options.watchers:
        progress.say(f"{count:,} watchers")
        cost = partial(_cost, url, count, run.options.idle_seconds / 4)
        run.runner.run(cost(trace=False))  # the assets are registered, as they are but for the first time
        costs = [run.runner.run(cost(trace=False)) for _ in range(min(run.options.rounds, 3))]
        memory = run.runner.run(cost(trace=True)).memory
        start, stop, calls = (median(getattr(each, name) for each in costs) for name in ("start", "stop", "calls"))
        found[str(count)] = {"start": start, "stop": stop, "calls": calls, "memory": memory}
        rows.append((f"{count:,}", f"{start:.2f}", f"{stop:.2f}", f"{memory / 1000:.1f}", f"{calls:.1f}"))
    head = ("watchers", "start, s", "stop, s", "kB each", f"calls of the store a second, a heartbeat each {_BEAT:g} s")
    report.tables.append(Table(f"{site.title}, idle watchers in one process", head, rows))
    progress.say("takeover")
    takeovers = {
        "by its lease": _takeover(url, anonymous=True),
        "seen on the same machine": _takeover(url, anonymous=False),
    }
    report.tables.append(
        Table(
            f"{site.title}, from SIGKILL until another process runs all of its {_SHARED // 2} watchers",
            ("", f"seconds (lease {_LEASE:g} s, heartbeat {_BEAT:g} s)"),
            [(name, f"{seconds:.2f}") for name, seconds in takeovers.items()],
        )
    )
    report.data[site.title] = {"watchers": found, "takeover_seconds": takeovers}
    return report


def settings() -> Settings:
    """Give the settings of a triggerer that is measured."""
    return Settings(triggerer=TriggererSettings(lease=_LEASE, heartbeat_interval=_BEAT, capacity=1_000_000))


class _Counting:
    """Counts the calls of a fleet."""

    def __init__(self, inner: object) -> None:
        self._inner = inner
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name.startswith("a"):
            self.calls += 1
        return found


async def _cost(url: str, count: int, quiet_seconds: float, *, trace: bool) -> Cost:
    async with connect(url, settings=settings()) as store:
        assets = watched(count)
        gc.collect()
        if trace:
            tracemalloc.start()
        backend = cast("MetastoreBackend", store.backend)
        counting = _Counting(backend.fleet)
        vars(backend)["_fleet"] = counting
        start = calls = memory = 0.0
        started = stopped = time.perf_counter()
        triggerer = Triggerer(store, assets)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(triggerer.run)
            while triggerer.states.get(None, 0):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
            start = time.perf_counter() - started
            await asyncio.sleep(0.5)
            gc.collect()
            memory = tracemalloc.get_traced_memory()[0] / count if trace else 0.0
            tracemalloc.stop()
            before = counting.calls
            await asyncio.sleep(quiet_seconds)
            calls = (counting.calls - before) / quiet_seconds
            stopped = time.perf_counter()
            triggerer.stop()
        return Cost(start, time.perf_counter() - stopped, calls, memory)


def _takeover(url: str, *, anonymous: bool) -> float:
    command = [sys.executable, "-m", "benchmarks.sections.fleet_worker", url, str(_SHARED)]
    command += ["anonymous"] if anonymous else []
    first, second = (subprocess.Popen([*command, name]) for name in ("first", "second"))
    try:
        with connect(url, settings=settings()) as store:
            _wait(store, {"first": _SHARED // 2, "second": _SHARED // 2})
            first.send_signal(signal.SIGKILL)
            return _wait(store, {"second": _SHARED})
    finally:
        for process in (first, second):
            process.kill()
            process.wait()
        # The next pair must not wait for the lease of this one.
        time.sleep(_LEASE)


def _wait(store: Store, wanted: dict[str, int]) -> float:
    started = time.monotonic()
    while True:
        running: list[WatcherRecord] = [each for each in store.list_watchers() if each.lease_age is not None]
        if {name: sum(each.owner == name for each in running) for name in {each.owner for each in running}} == wanted:
            return time.monotonic() - started
        if time.monotonic() - started > _PATIENCE:
            raise TimeoutError(f"the watchers were not shared as {wanted}")
        time.sleep(0.02)
