"""Collect garbage in a process of its own, so that its peak of memory is its own; prints one JSON line.

python -m benchmarks.sections.garbage_worker ours|bare URL BATCH
"""

from __future__ import annotations

import asyncio
import json
import resource
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from asyncstore import CleanupBatch, Settings, StateStoreSettings, connect

from ..databases.postgres import asyncpg

__all__ = ["main"]

_DELETE = "DELETE FROM asyncstore_task_state WHERE expires_at <= "


def peak_bytes() -> int:
    """Give the most memory that the process has had."""
    # Linux counts the parent's, as of the moment it started this process, into the resource usage.
    status = Path("/proc/self/status")
    if status.exists():
        lines = [line.split() for line in status.read_text().splitlines()]
        return next((int(words[1]) * 1024 for words in lines if words[0] == "VmHWM:"), 0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


async def ours(url: str, batch: int) -> dict[str, float]:
    """Collect as the store does, in batches."""
    settings = Settings(state_store=StateStoreSettings(state_cleanup_batch_size=batch))
    peaks: list[int] = []

    def early(progress: CleanupBatch) -> None:
        # What the first tenth needs, all of it may need, however many rows there are.
        if not peaks and progress.done * 10 >= progress.total:
            peaks.append(peak_bytes())

    async with connect(url, settings=settings) as store:
        began = time.perf_counter()
        report = await store.acleanup(on_batch=early)
        seconds = time.perf_counter() - began
    rows, last = report.deleted or 0, peak_bytes()
    return {"seconds": seconds, "rows": rows, "growth": last - (peaks or [last])[0], "peak": last}


async def bare(url: str) -> dict[str, float]:
    """Delete in one statement, as the bare driver does."""
    now = time.time_ns() // 1000
    parts = urlsplit(url)
    if parts.scheme.startswith("sqlite"):
        with closing(sqlite3.connect(parts.path[1:], isolation_level=None)) as raw:
            raw.execute("PRAGMA synchronous = FULL")
            began = time.perf_counter()
            rows = raw.execute(f"{_DELETE}?", (now,)).rowcount
            seconds = time.perf_counter() - began
    else:
        connection = await asyncpg().connect(parts._replace(scheme="postgresql").geturl())
        began = time.perf_counter()
        rows = int(str(await connection.execute(f"{_DELETE}$1", now)).split()[-1])
        seconds = time.perf_counter() - began
        await connection.close()
    return {"seconds": seconds, "rows": rows, "growth": 0, "peak": peak_bytes()}


def main() -> None:
    """Do what the arguments say."""
    how, url, batch = sys.argv[1:]
    print(json.dumps(asyncio.run(ours(url, int(batch)) if how == "ours" else bare(url))))


if __name__ == "__main__":
    main()
