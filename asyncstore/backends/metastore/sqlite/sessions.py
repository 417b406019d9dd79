"""Sessions of SQLAlchemy on a SQLite file, for the caller to write in."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiosqlite
from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from ....errors import UnsupportedOperationError
from ..session import close
from .errors import mapped
from .target import Target

__all__ = ["open_session"]


class _Connection(sqlite3.Connection):
    """Undo what is not committed before closing.

    SQLite goes on holding the locks of a closed connection until its last statement is gone, and the traceback of an
    error may hold on to that.
    """

    def close(self) -> None:
        with suppress(sqlite3.Error):
            if self.in_transaction:
                self.rollback()
        super().close()


def _begin(connection: Connection) -> None:
    # IMMEDIATE: a transaction that reads first and asks for the write lock later may be refused half-way.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


@asynccontextmanager
async def open_session(target: Target, *, lock_timeout: float, durability: str) -> AsyncGenerator[AsyncSession]:
    """Give a session on a connection of its own, whose transaction holds the write lock from its first statement on.

    :param target: the database.
    :param lock_timeout: seconds to wait at most for the lock.
    :param durability: "full" or "normal".
    :raises UnsupportedOperationError: the database is in memory.
    """
    path = target.path
    if path is None:
        raise UnsupportedOperationError(
            "event.transaction() needs a second connection, and no other one sees an in-memory database; use a file"
        )

    opened: list[aiosqlite.Connection] = []

    async def connect() -> Any:
        with mapped(str(target)):
            place = f"{path.as_uri()}?mode=rw"  # a file that was deleted is not made anew
            raw = aiosqlite.connect(place, timeout=lock_timeout, isolation_level=None, uri=True, factory=_Connection)
            raw._thread.daemon = True  # pyright: ignore[reportPrivateUsage]  # a process may end in the middle
            try:
                await raw
                await raw.execute("PRAGMA foreign_keys = ON")
                await raw.execute(f"PRAGMA synchronous = {'FULL' if durability == 'full' else 'NORMAL'}")
            except BaseException:
                raw.stop()  # pyright: ignore[reportUnknownMemberType]
                raise
        opened.append(raw)
        return raw

    # To open a file is cheap, and a connection that stays would belong to an event loop.
    engine = create_async_engine("sqlite+aiosqlite://", async_creator=connect, poolclass=NullPool)
    event.listen(engine.sync_engine, "begin", _begin)
    session = AsyncSession(engine, expire_on_commit=False)
    try:
        yield session
    finally:
        await close(session)
        for raw in opened:
            # SQLAlchemy before 2.1 loses one whose opening is cancelled.
            raw.stop()  # pyright: ignore[reportUnknownMemberType]
