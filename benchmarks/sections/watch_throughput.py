"""How fast the folder watcher records files that are there already: each event a commit of its own, made durable.

python -m benchmarks.watch_throughput [--files 10000]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sqlite3
import tempfile
import time
from pathlib import Path

from asyncstore import Asset, connect
from triggers import AssetWatcher, FolderTrigger, Triggerer


def make_files(folder: Path, count: int) -> None:
    """Make small files."""
    folder.mkdir()
    for number in range(count):
        (folder / f"file {number}").write_bytes(b"x")


def bare_commits(path: Path, count: int) -> float:
    """Give how many commits of one row a second the file system makes durable."""
    raw = sqlite3.connect(path, isolation_level=None)
    raw.execute("PRAGMA journal_mode = WAL")
    raw.execute("PRAGMA synchronous = FULL")
    raw.execute("CREATE TABLE kept (id INTEGER PRIMARY KEY, value TEXT)")
    started = time.perf_counter()
    for number in range(count):
        raw.execute("INSERT INTO kept (value) VALUES (?)", (f"{number} {'x' * 200}",))
    seconds = time.perf_counter() - started
    raw.close()
    return count / seconds


async def watch(folder: Path, database: Path) -> float:
    """Watch until every file is recorded; gives the seconds."""
    trigger = FolderTrigger(str(folder), settle=0, interval=0.01, once=True)
    async with connect(f"sqlite+aiosqlite:///{database}") as store:
        started = time.perf_counter()
        await Triggerer(store, [Asset("inbox", watchers=[AssetWatcher("files", trigger)])]).run()
        return time.perf_counter() - started


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    count = parser.parse_args().files
    with tempfile.TemporaryDirectory() as text:
        place = Path(text)
        make_files(place / "inbox", count)
        first = asyncio.run(watch(place / "inbox", place / "store.db"))
        again = asyncio.run(watch(place / "inbox", place / "store.db"))
        size = os.path.getsize(place / "store.db")  # noqa: PTH202
        commits = bare_commits(place / "bare.db", min(count, 5000))
    print("| | |\n|---|---|")
    print(f"| {count:,} files recorded, events a second | {count / first:,.0f} |")
    print(f"| bare sqlite3, commits of one row a second (FULL) | {commits:,.0f} |")
    print(f"| start again with all of them known, seconds | {again:.2f} |")
    print(f"| database, bytes a file | {size / count:,.0f} |")


if __name__ == "__main__":
    main()
