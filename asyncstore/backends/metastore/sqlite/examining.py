"""What can be wrong with a SQLite file."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from ....doctor.records import Finding, ok, warning

__all__ = ["examine_file", "journal_mode"]

#: Bytes that should be left on the disk, and that the log should not outgrow.
_SPACE = 256 * 2**20
_LOG = 256 * 2**20


def journal_mode(raw: sqlite3.Connection) -> str:
    """Tell how the file is journalled."""
    return str(raw.execute("PRAGMA journal_mode").fetchone()[0])


def examine_file(path: Path, mode: str) -> Iterator[Finding]:
    """Look at a file.

    :param path: the file.
    :param mode: its journal mode.
    """
    if mode != "wal":
        told = f"the journal mode is {mode!r}, so that readers and writers wait for each other"
        yield warning("server", told, "put the file on a local disk: some file systems take no write-ahead log")
    else:
        yield ok("server", f"SQLite {sqlite3.sqlite_version}, with a write-ahead log")
    free = shutil.disk_usage(path.parent).free
    log = path.with_name(f"{path.name}-wal")
    logged = log.stat().st_size if log.exists() else 0
    size = path.stat().st_size
    told = f"{size / 2**20:,.1f} MiB in the file, {logged / 2**20:,.1f} in its log; {free / 2**30:,.1f} GiB free"
    if free < _SPACE:
        yield warning("disk", told, "make room: a commit that finds none fails")
    elif logged > _LOG:
        yield warning("disk", told, "end the reader that is in a transaction for long: it keeps the log from ending")
    else:
        yield ok("disk", told)
