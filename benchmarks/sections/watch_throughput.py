"""How fast the folder watcher records files that are there already: each event a commit of its own, made durable."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from asyncstore import Asset, Settings, connect
from triggers import AssetWatcher, FolderTrigger, Triggerer

from ..databases.postgres import asyncpg
from ..databases.sites import Site, SqliteSite, upgrade
from ..progress import Progress
from ..report.model import SectionReport, Table
from .abc import Run

__all__ = ["watch_throughput"]

_MOST_COMMITS = 5000


def watch_throughput(run: Run, site: Site) -> SectionReport:
    """Measure on one database."""
    files, progress = run.options.files, Progress(f"watch, {site.title}")
    inbox = run.folder / f"inbox-{site.short}"
    _make_files(inbox, files)
    url = run.runner.run(site.make("watch"))
    run.runner.run(upgrade(url))
    progress.say(f"recording {files:,} files")
    first = run.runner.run(_watch(inbox, url))
    again = run.runner.run(_watch(inbox, url))
    commits = run.runner.run(_bare(run, site, min(files, _MOST_COMMITS)))
    driver = "sqlite3" if isinstance(site, SqliteSite) else "asyncpg"
    rows = [
        (f"{files:,} files recorded, events a second", f"{files / first:,.0f}"),
        (f"bare {driver}, commits of one row a second", f"{commits:,.0f}"),
        ("start again with all of them known, seconds", f"{again:.2f}"),
    ]
    report = SectionReport("watch")
    report.tables.append(Table(f"{site.title}, a watched folder", ("", "found"), rows))
    report.data[site.title] = {
        "files": files,
        "events_per_second": files / first,
        "bare_commits_per_second": commits,
        "start_again_seconds": again,
    }
    return report


def _make_files(folder: Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        (folder / f"file {number}").write_bytes(b"x")


async def _watch(folder: Path, url: str) -> float:
    """Watch until every file is recorded; gives the seconds."""
    trigger = FolderTrigger(str(folder), settle=0, interval=0.01, once=True)
    async with connect(url, settings=Settings()) as store:
        started = time.perf_counter()
        await Triggerer(store, [Asset("inbox", watchers=[AssetWatcher("files", trigger)])]).run()
        return time.perf_counter() - started


async def _bare(run: Run, site: Site, count: int) -> float:
    """Give how many commits of one row a second the driver makes durable, one after the other."""
    if isinstance(site, SqliteSite):
        return await asyncio.to_thread(_bare_sqlite, run.folder / "commits.db", count)
    await site.make("commits")
    raw = await asyncpg().connect(site.plain("commits"))
    try:
        await raw.execute("CREATE TABLE kept (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, value text)")
        insert = await raw.prepare("INSERT INTO kept (value) VALUES ($1)")
        started = time.perf_counter()
        for number in range(count):
            await insert.fetchval(f"{number} {'x' * 200}")
        return count / (time.perf_counter() - started)
    finally:
        await raw.close()


def _bare_sqlite(path: Path, count: int) -> float:
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute("PRAGMA synchronous = FULL")
        raw.execute("CREATE TABLE kept (id INTEGER PRIMARY KEY, value TEXT)")
        started = time.perf_counter()
        for number in range(count):
            raw.execute("INSERT INTO kept (value) VALUES (?)", (f"{number} {'x' * 200}",))
        return count / (time.perf_counter() - started)
