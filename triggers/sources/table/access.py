"""How a database is asked: one operation at a time, each with a deadline; a cancellation leaves nothing behind."""

from __future__ import annotations

import asyncio
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, cast, final

import anyio
import anyio.to_thread
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from .address import Address

__all__ = ["Access", "open_access"]

T = TypeVar("T")

#: Seconds that a driver gets to let go of a connection.
_CLOSING = 2.0
# Each statement is a transaction of its own, so that none is open while nothing is asked.
_OPTIONS: dict[str, Any] = {"isolation_level": "AUTOCOMMIT", "hide_parameters": True}


class Access(ABC):
    """Run functions on connections to one database."""

    @abstractmethod
    async def perform(self, function: Callable[[Connection], T], timeout: float) -> T:
        """Run a function that asks the database; cancelled, it is given up.

        :param function: gets a connection.
        :param timeout: seconds that it may take, connecting included.
        :raises TimeoutError: it took longer.
        """

    async def aclose(self) -> None:  # noqa: B027 - optional
        """Let go of what is held."""


def open_access(address: Address) -> Access:
    """Give access to a database; nothing is connected yet.

    :param address: where it is.
    """
    return _File(address) if address.file is not None else _Server(address)


def _decode(text: bytes) -> str:
    # SQLite keeps whatever it is given as a text; one that is none must not hold up the others.
    return text.decode(errors="replace")


@final
class _File(Access):
    """Ask a file of SQLite: a whole operation is one function in a thread, on a connection of its own.

    The file may be replaced by another one at any time, so nothing is kept open.
    """

    def __init__(self, address: Address) -> None:
        self._engine = sa.create_engine(address.url, poolclass=NullPool, **_OPTIONS)

    async def perform(self, function: Callable[[Connection], T], timeout: float) -> T:
        asked: list[sqlite3.Connection] = []

        def work() -> T:
            with self._engine.connect() as connection:
                driver = cast("sqlite3.Connection", connection.connection.driver_connection)
                driver.text_factory = _decode
                asked.append(driver)
                return function(connection)

        try:
            with anyio.fail_after(timeout):
                return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
        finally:
            for connection in asked:
                with suppress(sqlite3.Error):  # it is closed, unless nobody waits for it any more
                    connection.interrupt()


@final
class _Server(Access):
    """Ask a server, on one connection that is kept.

    An operation is a task of its own: anyio cancels again at each `await`, and what drivers do to close a connection
    stands only one cancellation.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._engine: AsyncEngine | None = None

    async def perform(self, function: Callable[[Connection], T], timeout: float) -> T:
        task = asyncio.create_task(self._work(function), name="ask a database")
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.shield(task)
        finally:
            if not task.done():
                task.cancel()
                with anyio.CancelScope(shield=True):
                    await asyncio.wait([task], timeout=_CLOSING)
            if task.done() and not task.cancelled():
                task.exception()  # nobody else looks at it, where nobody waits any more

    async def _work(self, function: Callable[[Connection], T]) -> T:
        if self._engine is None:
            self._engine = create_async_engine(
                self._address.url, pool_size=1, max_overflow=0, pool_pre_ping=True, **_OPTIONS
            )
        async with self._engine.connect() as connection:
            return await connection.run_sync(function)

    async def aclose(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            closing = asyncio.create_task(engine.dispose(), name="leave a database")
            with anyio.CancelScope(shield=True):
                await asyncio.wait([closing], timeout=_CLOSING)
