"""Measure what watching a big folder costs while nothing changes in it.

The looks run in a worker thread, as a trigger runs them, and the *pause* is the longest time by which a thread that
wakes up every millisecond was late meanwhile.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from triggers.sources.folder.scanner import FolderScanner, Look

from ..databases.sites import Site
from ..progress import Progress
from ..report.model import SectionReport, Table
from .abc import Run

__all__ = ["folder_idle"]

_NEVER = 1e9
_BEAT = 0.001


@dataclass(frozen=True, slots=True)
class Cost:
    """Hold what one look took: its duration and the longest pause of another thread, in seconds."""

    seconds: float
    pause: float


@contextmanager
def folder_of(files: int) -> Generator[Path]:
    """Make a temporary folder with that many small files, and remove it in the end."""
    with tempfile.TemporaryDirectory() as name:
        for number in range(files):
            Path(name, f"part-{number:07d}.csv").write_bytes(b"x" * (number % 100))
        yield Path(name)


def timed_look(scanner: FolderScanner, now: float) -> tuple[Look, Cost]:
    """Look once in a worker thread, while this one wakes up every millisecond."""
    looks: list[tuple[Look, float]] = []

    def work() -> None:
        began = time.perf_counter()
        look = scanner.look(now)
        looks.append((look, time.perf_counter() - began))

    worker = threading.Thread(target=work, name="look")
    pause, last = 0.0, time.perf_counter()
    worker.start()
    while worker.is_alive():
        time.sleep(_BEAT)
        woke = time.perf_counter()
        pause, last = max(pause, woke - last - _BEAT), woke
    worker.join()
    look, seconds = looks[0]
    return look, Cost(seconds, pause)


def repeated(root: Path, factor: float, times: int = 7, *, add_a_file: bool = False) -> Cost:
    """Give the median cost of one kind of look at a folder whose files are all known."""
    scanner = FolderScanner(root, settle=0, factor=factor)
    # Three seconds later the listing of the folder is final.
    for now in (0.0, 3.0):
        scanner.look(now)
    costs: list[Cost] = []
    for number in range(times):
        new = root / f"new-{number}"
        if add_a_file:
            new.touch()
        costs.append(timed_look(scanner, 10.0 + number)[1])
        new.unlink(missing_ok=True)
    return Cost(statistics.median(cost.seconds for cost in costs), max(cost.pause for cost in costs))


def idle_share(root: Path, seconds: float, full_look: float) -> tuple[float, int, int]:
    """Follow the scanner's own schedule from one full look to another.

    :return: the share of a core used, the number of looks, and how many of them were full
    """
    scanner = FolderScanner(root, settle=0)
    began = time.monotonic()
    next_at = scanner.look(began).next_at
    start: tuple[float, float] | None = None
    looks = full_looks = 0
    while True:
        time.sleep(max(0.0, next_at - time.monotonic()))
        now = time.monotonic()
        next_at = scanner.look(now).next_at
        was_full = time.monotonic() - now > full_look / 5
        looks, full_looks = looks + 1, full_looks + was_full
        if start is None:
            if was_full:
                start, looks, full_looks = (time.monotonic(), time.process_time()), 0, 0
        elif was_full and time.monotonic() - start[0] >= seconds:
            elapsed = time.monotonic() - start[0]
            return (time.process_time() - start[1]) / elapsed, looks, full_looks


def memory(root: Path) -> tuple[int, int]:
    """Give the bytes a scanner keeps once every file is reported, and the most that a full look adds to them."""
    tracemalloc.start()
    scanner = FolderScanner(root, settle=0, factor=0)
    scanner.look(0.0)
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    scanner.look(3.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return kept, peak - kept


def rows(root: Path, files: int, seconds: float) -> Iterator[tuple[str, str, str]]:
    """Measure, and give the rows of the table as they are known."""
    scanner = FolderScanner(root)
    first, cost = timed_look(scanner, 0.0)
    yield "first look", f"{cost.seconds * 1e3:.0f} ms", f"{cost.pause * 1e3:.1f} ms"
    settled, cost = timed_look(scanner, first.next_at)
    while len(settled.complete) < files:
        settled, cost = timed_look(scanner, settled.next_at)
    yield "the look that reports them all", f"{cost.seconds * 1e3:.0f} ms", f"{cost.pause * 1e3:.1f} ms"
    full = repeated(root, 0)
    yield "full look, nothing changed", f"{full.seconds * 1e3:.0f} ms", f"{full.pause * 1e3:.1f} ms"
    cheap = repeated(root, _NEVER)
    yield "cheap look, nothing changed", f"{cheap.seconds * 1e6:.0f} us", f"{cheap.pause * 1e3:.1f} ms"
    changed = repeated(root, _NEVER, add_a_file=True)
    yield "cheap look, one new file", f"{changed.seconds * 1e3:.0f} ms", f"{changed.pause * 1e3:.1f} ms"
    share, looks, full_looks = idle_share(root, seconds, full.seconds)
    yield f"idle, {looks} looks of which {full_looks} full", f"{share:.1%} of a core", ""
    kept, extra = memory(root)
    yield "memory kept", f"{kept / files:.0f} bytes a file", ""
    yield "more while a full look runs", f"{extra / files:.0f} bytes a file", ""


def folder_idle(run: Run, _: Site) -> SectionReport:
    """Measure; needs no database."""
    files, progress = run.options.idle_files, Progress("idle")
    progress.say(f"making {files:,} files")
    report = SectionReport("idle")
    with folder_of(files) as root:
        progress.say("looking")
        found = list(rows(root, files, run.options.idle_seconds))
    header = (f"{files:,} files", "cost", "longest pause of another thread")
    report.tables.append(Table("A folder in which nothing changes", header, found))
    report.data["folder"] = {"files": files, "rows": found}
    return report
