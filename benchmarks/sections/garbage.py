"""Garbage collection in batches against one bare DELETE: time, memory, and what others feel meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

from asyncstore import Settings, Store, TaskScope, connect

from ..databases.filling import KEYS_OF_A_TASK, run_of, task_of
from ..databases.sites import Site
from ..measuring.data import VALUES
from ..measuring.loop import Sample
from ..measuring.spread import Spread
from ..progress import Progress
from ..report.model import SectionReport, Table, Verdict
from .abc import Run

__all__ = ["garbage"]

_ROOT = Path(__file__).parents[2]
_BOUND, _FLAT_BYTES = 2.0, 8_000_000
_PAUSE = 0.002
_TEMPLATE, _COPY = "garbage", "garbage_copy"

_FIGURES: tuple[Callable[[Sample], float], ...] = (attrgetter("p50"), attrgetter("p99"), attrgetter("worst"))

#: How garbage goes: in batches by the store, in one statement, and not at all.
_OURS, _BARE, _NOTHING = "ours", "bare", "nothing"


@dataclass(frozen=True, slots=True)
class _Found:
    """Hold what every round gave, by how the garbage went."""

    alone: dict[str, list[dict[str, float]]] = field(default_factory=dict[str, list[dict[str, float]]])
    reads: dict[str, list[Sample]] = field(default_factory=dict[str, list[Sample]])
    writes: dict[str, list[Sample]] = field(default_factory=dict[str, list[Sample]])


def garbage(run: Run, site: Site) -> SectionReport:
    """Measure on one database."""
    progress = Progress(f"garbage, {site.title}")
    found = _Found()
    run.runner.run(_measure(run, site, progress, found))
    report = SectionReport("garbage")
    report.verdicts.extend(_verdicts(site, found, run.options.garbage_rows))
    report.tables.extend((_alone(run, site, found), _meanwhile(site, found)))
    report.data[site.title] = {
        "alone": found.alone,
        "reads_worst_ms": {how: [each.worst * 1e3 for each in samples] for how, samples in found.reads.items()},
        "writes_worst_ms": {how: [each.worst * 1e3 for each in samples] for how, samples in found.writes.items()},
    }
    return report


async def _measure(run: Run, site: Site, progress: Progress, found: _Found) -> None:
    options = run.options
    progress.say(f"filling {options.garbage_rows:,} expired rows and {options.fresh_rows:,} that are not")
    await site.with_garbage(_TEMPLATE, options.garbage_rows, options.fresh_rows)
    for number in range(options.garbage_rounds):
        for how in (_OURS, _BARE) if number % 2 else (_BARE, _OURS):
            progress.say(f"round {number + 1}/{options.garbage_rounds}: {how}, alone")
            url = await site.copy(_COPY, _TEMPLATE)
            result = await _collect(how, url, options.batch)
            if result["rows"] != options.garbage_rows:
                raise RuntimeError(f"{how}: {result['rows']:,.0f} rows went, not {options.garbage_rows:,}")
            found.alone.setdefault(how, []).append(result)
        for how in (_NOTHING, _OURS, _BARE):
            progress.say(f"round {number + 1}/{options.garbage_rounds}: {how}, beside readers and writers")
            url = await site.copy(_COPY, _TEMPLATE)
            reads, writes = await _beside(how, url, run)
            found.reads.setdefault(how, []).append(reads)
            found.writes.setdefault(how, []).append(writes)
    for purpose in (_COPY, _TEMPLATE):
        await site.drop(purpose)


async def _collect(how: str, url: str, batch: int) -> dict[str, float]:
    paths = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.sections.garbage_worker", how, url, str(batch)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths},
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RuntimeError(f"the collection of garbage failed with {process.returncode}")
    result: dict[str, float] = json.loads(output)
    return result


async def _beside(how: str, url: str, run: Run) -> tuple[Sample, Sample]:
    """Read and write rows that have not expired, at a steady pace, until the garbage is gone."""
    options, over = run.options, asyncio.Event()
    keys = _fresh(options.garbage_rows, options.fresh_rows)
    async with connect(url, settings=Settings()) as store:

        async def read(number: int) -> object:
            scope, key = keys[number % len(keys)]
            return await store.task_state(scope).aget(key)

        async def write(number: int) -> None:
            scope, key = keys[-1 - number % len(keys)]
            await store.task_state(scope).aset(key, VALUES[number % len(VALUES)])

        await _warm(store, keys)
        async with asyncio.TaskGroup() as group:
            reads, writes = (group.create_task(_paced(operation, over)) for operation in (read, write))
            try:
                if how == _NOTHING:
                    await asyncio.sleep(options.seconds * 2)
                else:
                    await _collect(how, url, options.batch)
            finally:
                over.set()
    return reads.result(), writes.result()


async def _warm(store: Store, keys: list[tuple[TaskScope, str]]) -> None:
    for scope, key in keys[:10]:
        if await store.task_state(scope).aget(key) is None:
            raise RuntimeError(f"{scope} has no {key!r}, which should not have expired")


def _fresh(expired: int, fresh: int, at_most: int = 1000) -> list[tuple[TaskScope, str]]:
    order = random.Random(fresh)
    rows = order.sample(range(expired, expired + fresh), min(fresh, at_most))
    return [
        (TaskScope("bench", run_of(instance), task_of(instance)), f"key {row % KEYS_OF_A_TASK}")
        for row in rows
        for instance in [1 + row // KEYS_OF_A_TASK]
    ]


async def _paced(operation: Callable[[int], Awaitable[object]], over: asyncio.Event) -> Sample:
    latencies: list[float] = []
    started = time.perf_counter()
    while not over.is_set():
        began = time.perf_counter()
        await operation(len(latencies))
        latencies.append(time.perf_counter() - began)
        await asyncio.sleep(_PAUSE)
    return Sample.of(latencies, time.perf_counter() - started)


def _verdicts(site: Site, found: _Found, rows: int) -> list[Verdict]:
    ours, bare = found.alone[_OURS], found.alone[_BARE]
    time_ratio = Spread.of(a["seconds"] / b["seconds"] for a, b in zip(ours, bare, strict=True))
    growth = Spread.of(each["growth"] / 1e6 for each in ours)
    what, where = f"{site.title} garbage collection", f"{rows:,} rows"
    return [
        Verdict(f"{what}: time / one bare DELETE", where, time_ratio, _BOUND, at_least=False),
        Verdict(f"{what}: MB more after the first tenth", where, growth, _FLAT_BYTES / 1e6, at_least=False),
    ]


def _alone(run: Run, site: Site, found: _Found) -> Table:
    names = {_BARE: "one bare DELETE", _OURS: f"`acleanup`, batches of {run.options.batch:,}"}
    rows: list[tuple[str, ...]] = []
    for how, name in names.items():
        seconds = Spread.of(each["seconds"] for each in found.alone[how])
        peak, growth = (Spread.of(each[key] / 1e6 for each in found.alone[how]) for key in ("peak", "growth"))
        text = f"{seconds.median:.2f} ({seconds.least:.2f} to {seconds.most:.2f})"
        rows.append((name, text, f"{peak.median:.0f}", f"{growth.median:.1f}" if how == _OURS else ""))
    expired, fresh = run.options.garbage_rows, run.options.fresh_rows
    header = ("", "seconds", "peak of the process, MB", "more after the first tenth, MB")
    note = (
        f"{expired:,} of {expired + fresh:,} rows have expired, {KEYS_OF_A_TASK} of a task. `acleanup` deletes the "
        "task instances that are left without state too, which the bare DELETE leaves behind."
    )
    return Table(f"{site.title}, garbage collection", header, rows, (note,))


def _meanwhile(site: Site, found: _Found) -> Table:
    names = {_NOTHING: "no garbage is collected", _OURS: "`acleanup` runs", _BARE: "the bare DELETE runs"}
    rows: list[tuple[str, ...]] = []
    for how, name in names.items():
        both = (found.reads[how], found.writes[how])
        figures = (Spread.of(get(each) * 1e3 for each in samples) for samples in both for get in _FIGURES)
        rows.append((name, *(f"{each.median:.2f}" for each in figures)))
    header = ("while", *(f"a{kind} {part}" for kind in ("get", "set") for part in ("p50", "p99", "worst")))
    note = f"One reader and one writer, each pausing {_PAUSE * 1e3:.0f} ms between two operations on fresh rows."
    return Table(f"{site.title}, what others feel meanwhile, ms", header, rows, (note,))
