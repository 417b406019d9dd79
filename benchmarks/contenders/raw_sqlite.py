"""The bare drivers of SQLite, on a table as simple as a table can be."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, closing
from pathlib import Path

import aiosqlite

from ..measuring.data import TEXTS
from ..measuring.loop import Kind, Operation
from .abc import AsyncContender, PlainContender

__all__ = ["RawAiosqlite", "RawSqlite", "fill"]

_SELECT = "SELECT value FROM kept WHERE key = ?"
_UPSERT = "INSERT INTO kept (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"


def fill(path: Path, keys: Sequence[str]) -> None:
    """Make the table.

    :param path: a file that does not exist yet.
    :param keys: the keys.
    """
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute("CREATE TABLE kept (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
        raw.executemany(_UPSERT, ((key, TEXTS[number % len(TEXTS)]) for number, key in enumerate(sorted(keys))))


class RawSqlite(PlainContender):
    """`sqlite3` in one thread, without an event loop; each write a commit of its own, `synchronous=FULL`.

    :param name: the name.
    :param keys: rows that are there.
    :param path: the file.
    :param query: how a key is read; of a table of one's own by default.
    """

    def __init__(self, name: str, keys: Sequence[str], path: Path, query: str = _SELECT) -> None:
        super().__init__(name, keys)
        self._path = path
        self._query = query
        self._raw: sqlite3.Connection | None = None

    def open(self) -> None:
        """Connect."""
        raw = self._raw = sqlite3.connect(self._path, isolation_level=None)
        raw.execute("PRAGMA synchronous = FULL")
        query, count = self._query, len(TEXTS)
        self._operations = {
            "get": lambda key, _: raw.execute(query, (key,)).fetchone(),
            "set": lambda key, number: raw.execute(_UPSERT, (key, TEXTS[number % count])),
        }

    def close(self) -> None:
        """Disconnect."""
        if self._raw is not None:
            self._raw.close()


class RawAiosqlite(AsyncContender):
    """`aiosqlite`: a whole query in one hop to its thread; each write a commit of its own, `synchronous=FULL`.

    :param name: the name.
    :param keys: rows that are there.
    :param runner: runs the loop.
    :param path: the file.
    """

    def __init__(self, name: str, keys: Sequence[str], runner: asyncio.Runner, path: Path) -> None:
        super().__init__(name, keys, runner)
        self._path = path
        self._stack = AsyncExitStack()

    async def aopen(self) -> Mapping[Kind, Operation]:
        """Connect."""
        raw = await self._stack.enter_async_context(aiosqlite.connect(self._path, isolation_level=None))
        await raw.execute_fetchall("PRAGMA synchronous = FULL")
        count = len(TEXTS)
        return {
            "get": lambda key, _: raw.execute_fetchall(_SELECT, (key,)),
            "set": lambda key, number: raw.execute_fetchall(_UPSERT, (key, TEXTS[number % count])),
        }

    async def aclose(self) -> None:
        """Disconnect."""
        await self._stack.aclose()
