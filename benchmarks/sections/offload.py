"""Values in object storage: a write and a read through the store, beside the bare client of the same folder."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from itertools import count

import obstore
from obstore.store import LocalStore

from asyncstore import (
    CommonIoSettings,
    CommonSettings,
    MetastoreBackend,
    ObjectStorageBackend,
    Settings,
    Store,
    TaskScope,
    WorkersSettings,
    connect,
)

from ..databases.sites import Site
from ..measuring.spread import Spread
from ..progress import Progress
from ..report.model import SectionReport, Table, Verdict
from .abc import Run

__all__ = ["offload"]

_SIZES = (1_000, 100_000)
_LEVELS = (1, 16)
_TASK = TaskScope("dag", "run", "task")
#: Of the rate at which a request and a statement can be made one after the other.
_BOUND = 0.3

Step = Callable[[int], Awaitable[object]]


async def _rate(step: Step, level: int, seconds: float) -> float:
    """Give the steps per second of so many workers."""
    numbers = count()
    began = time.perf_counter()
    until = began + seconds

    async def work() -> None:
        while time.perf_counter() < until:
            await step(next(numbers))

    await asyncio.gather(*(work() for _ in range(level)))
    return next(numbers) / (time.perf_counter() - began)


def _settings(url: str) -> Settings:
    return Settings(
        workers=WorkersSettings(state_backend=f"{ObjectStorageBackend.__module__}.{ObjectStorageBackend.__qualname__}"),
        common=CommonSettings(io=CommonIoSettings(state_store_objectstorage_path=url)),
    )


def _steps(store: Store, plain: Store, client: LocalStore, size: int) -> dict[str, Step]:
    value, body = "x" * size, b"x" * (size + 200)
    state, inline = store.task_state(_TASK), plain.task_state(TaskScope("dag", "run", "inline"))

    async def bare_get(number: int) -> object:
        return await (await obstore.get_async(client, f"bare/{number % 64}")).bytes_async()

    return {
        "aset, offloaded": lambda number: state.aset(f"key {number % 64}", value),
        "put, bare client": lambda number: obstore.put_async(client, f"bare/{number % 64}", body),
        "aset, in the store": lambda number: inline.aset(f"key {number % 64}", "x"),
        "aget, offloaded": lambda number: state.aget(f"key {number % 64}"),
        "get, bare client": bare_get,
        "aget, in the store": lambda number: inline.aget(f"key {number % 64}"),
    }


async def _measure(run: Run, site: Site, progress: Progress) -> dict[tuple[int, int, str], list[float]]:
    url = await site.make("offload")
    await MetastoreBackend(url).aupgrade()
    folder = run.folder / f"objects-{site.title.lower()}"
    folder.mkdir(exist_ok=True)
    found: dict[tuple[int, int, str], list[float]] = {}
    client = LocalStore(folder / "bare", mkdir=True)
    settings = _settings(folder.as_uri())
    async with connect(url, settings=settings) as store, connect(url, settings=Settings()) as plain:
        for size in _SIZES:
            steps = _steps(store, plain, client, size)
            for step in steps.values():
                for number in range(64):
                    await step(number)
            for number in range(run.options.rounds):
                progress.say(f"{size:,} bytes, round {number + 1}/{run.options.rounds}")
                for level in _LEVELS:
                    for name, step in steps.items():
                        rate = await _rate(step, level, run.options.seconds)
                        found.setdefault((size, level, name), []).append(rate)
    return found


def _ratio(found: dict[tuple[int, int, str], list[float]], size: int, level: int, ours: str, bare: str) -> Spread:
    # What both steps take one after the other, over what ours takes.
    inline = ours.replace("offloaded", "in the store")
    rounds = zip(found[size, level, ours], found[size, level, bare], found[size, level, inline], strict=True)
    return Spread.of(mine / (1 / (1 / request + 1 / statement)) for mine, request, statement in rounds)


def offload(run: Run, site: Site) -> SectionReport:
    """Measure on one database, with the objects in a folder."""
    progress = Progress(f"offload, {site.title}")
    found = run.runner.run(_measure(run, site, progress))
    report = SectionReport("offload")
    rows = [
        (f"{size:,} bytes, {level} at once: {name}", f"{(rate := Spread.of(rates)).median:,.0f}", f"{rate.least:,.0f}")
        for (size, level, name), rates in found.items()
    ]
    for size in _SIZES:
        for level in _LEVELS:
            for ours, bare in (("aset, offloaded", "put, bare client"), ("aget, offloaded", "get, bare client")):
                column = f"{size:,} bytes x {level}"
                target = f"{site.title} `{ours[:4]}` offloaded / one request and one statement after the other"
                report.verdicts.append(Verdict(target, column, _ratio(found, size, level, ours, bare), _BOUND))
    notes = ("the bare client does not sync what it writes to the disk; the store does, before it writes the row",)
    header = ("values in a folder", "per second, median", "least")
    report.tables.append(Table(f"{site.title}, values in object storage", header, rows, notes))
    report.data[site.title] = {f"{size} x {level}: {name}": rates for (size, level, name), rates in found.items()}
    return report
