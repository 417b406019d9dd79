"""A SQLite database in use: one lane for writes, one for reads, opened at the first call."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from ....blocking import inline
from .. import migrate
from .errors import mapped
from .lane import Lane
from .target import Target, connect

__all__ = ["SqliteDatabase"]

P = ParamSpec("P")
T = TypeVar("T")


def _transaction(raw: sqlite3.Connection, function: Callable[..., T], args: tuple[Any, ...]) -> T:
    # IMMEDIATE: a transaction that reads first and asks for the write lock later may be refused half-way.
    raw.execute("BEGIN IMMEDIATE")
    try:
        result = function(raw, *args)
        raw.execute("COMMIT")
    finally:
        if raw.in_transaction:
            raw.execute("ROLLBACK")
    return result


def _foreign_commits(raw: sqlite3.Connection) -> int:
    return int(raw.execute("PRAGMA data_version").fetchone()[0])


class SqliteDatabase:
    """Run functions on a SQLite database.

    In WAL mode a reader never waits for a writer, so reads have a connection and a thread of their own. In memory
    there is one connection for both: another one would be another database.

    :param target: the file, or memory.
    :param lock_timeout: seconds to wait at most for a lock.
    :param durability: "full" or "normal".
    """

    def __init__(self, target: Target, *, lock_timeout: float, durability: str) -> None:
        self._target = target
        self._lock_timeout = lock_timeout
        self._durability = durability
        self._opening = threading.Lock()
        self._lanes: tuple[Lane, Lane] | None = None

    def __str__(self) -> str:
        return str(self._target)

    @property
    def path(self) -> Path | None:
        """Return the file; None for memory."""
        return self._target.path

    async def read(self, function: Callable[Concatenate[sqlite3.Connection, P], T], /, *args: Any) -> T:
        """Run a function of one SELECT."""
        lanes = self._lanes or await self.aopen()
        return await lanes[1].run(function, *args)

    async def write(self, function: Callable[Concatenate[sqlite3.Connection, P], T], /, *args: Any) -> T:
        """Run a function in a transaction; nothing stays of it where it raises."""
        lanes = self._lanes or await self.aopen()
        return await lanes[0].run(_transaction, function, args)

    async def foreign_commits(self) -> int:
        """Give a number that changes when another connection than the writing one commits."""
        lanes = self._lanes or await self.aopen()
        return await lanes[0].run(_foreign_commits)

    async def aopen(self) -> tuple[Lane, Lane]:
        """Open the connections, and create the tables in a new file.

        :raises SchemaError: the file is of another release, or somebody else's.
        :raises DatabaseError: it cannot be opened.
        """
        return self._open() if inline() else await asyncio.to_thread(self._open)

    def _open(self) -> tuple[Lane, Lane]:
        with self._opening:
            if self._lanes is None:
                place = str(self._target)
                writer = connect(self._target, durability=self._durability)
                try:
                    with mapped(place):
                        migrate.create_if_empty(writer, place, self._lock_timeout)
                        migrate.check(writer, place)
                    write = Lane(writer, place, self._lock_timeout)
                    if self._target.path is None:
                        self._lanes = write, write
                    else:
                        reader = connect(self._target, durability=self._durability, read_only=True)
                        self._lanes = write, Lane(reader, place, self._lock_timeout)
                except BaseException:
                    writer.close()
                    raise
            return self._lanes

    async def upgrade(self) -> tuple[str | None, str]:
        """Bring the schema to this release's revision; gives the one before and the one after."""
        return self._upgrade() if inline() else await asyncio.to_thread(self._upgrade)

    def _upgrade(self) -> tuple[str | None, str]:
        place = str(self._target)
        raw = connect(self._target, durability=self._durability)
        try:
            with mapped(place):
                return migrate.upgrade(raw, place, self._lock_timeout)
        finally:
            raw.close()

    async def revision(self) -> str | None:
        """Give the revision of the schema, None where there is none; changes nothing."""
        return self._revision() if inline() else await asyncio.to_thread(self._revision)

    def _revision(self) -> str | None:
        place = str(self._target)
        if self._target.path is None or not self._target.path.exists():
            return None  # to look would make the file
        raw = connect(self._target, durability=self._durability)
        try:
            with mapped(place):
                return migrate.revision_of(raw)
        finally:
            raw.close()

    async def aclose(self) -> None:
        """Close the connections, once what has begun is done."""
        if inline():
            self._close()
        else:
            await asyncio.to_thread(self._close)

    def _close(self) -> None:
        with self._opening:  # an opening that was cancelled may still be under way
            lanes, self._lanes = self._lanes, None
        if lanes is not None:
            for lane in dict.fromkeys(lanes):
                lane.close()
