"""One connection to PostgreSQL, with what is prepared on it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import Any

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

from ....errors import OutcomeUnknownError
from ..migrate import check
from ..schema import PREFIX, VERSION_TABLE
from .target import Target

__all__ = ["Link", "Row"]

Row = Sequence[Any]

_HELLO = f"""
SELECT pg_backend_pid(), (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()),
  to_regclass('{VERSION_TABLE}') IS NOT NULL
"""  # noqa: S608 - constants
_REVISION = f"SELECT version_num FROM {VERSION_TABLE}"  # noqa: S608
_DRAWN = f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {PREFIX}version"  # noqa: S608


#: Milliseconds after which the server ends a transaction of several statements whose client has gone silent: nobody may
#: hold its locks for as long as a process is frozen, or a machine that was lost is not missed.
_IDLE = 5_000


class Link:
    """Run statements on one connection, one at a time.

    :ivar raw: asyncpg's connection.
    :ivar backend: what the server calls this connection: process and start.
    :ivar drawn: a version that was drawn before anything was sent here, and so is less than all that are drawn for it.
    """

    def __init__(self, raw: asyncpg.Connection[Any], target: Target, lock_timeout: float) -> None:
        self.raw = raw
        self.backend: tuple[int, Any] = (0, None)
        self.drawn = 0
        self._target = target
        self._lock_timeout = lock_timeout
        self._prepared: dict[str, PreparedStatement[Any]] = {}
        self._warnings: list[str] = []
        #: It was dropped since nothing came for too long.
        self.silent = False
        raw.add_log_listener(self._note)

    @classmethod
    async def open(cls, target: Target, *, lock_timeout: float, timeout: float, draws: bool) -> Link:
        """Connect, and check the schema.

        :param target: the database.
        :param lock_timeout: seconds that a statement waits for a lock.
        :param timeout: seconds that opening may take.
        :param draws: find out `drawn`, too; who may only read has no right to.
        :raises SchemaError: it is not this release's.
        """
        raw = await target.connect(lock_timeout=lock_timeout, timeout=timeout)
        try:
            link = cls(raw, target, lock_timeout)
            async with asyncio.timeout(timeout):
                row = (await link.run(_HELLO))[0]
                # Behind a pooler the process is the next client's in a moment.
                link.backend = (0, None) if target.pooled else (row[0], row[1])
                revision = await link.run(_REVISION) if row[2] else []
                check(str(revision[0][0]) if revision else None, target.place)
                if draws:
                    link.drawn = (await link.run(_DRAWN))[0][0]
        except BaseException:
            raw.terminate()
            raise
        return link

    def _note(self, _: object, message: Any) -> None:
        if getattr(message, "severity_en", None) == "WARNING" or getattr(message, "severity", None) == "WARNING":
            self._warnings.append(str(message))

    @property
    def closed(self) -> bool:
        """Tell whether the connection is gone."""
        return self.raw.is_closed()

    def ready(self, text: str, arguments: Sequence[Any]) -> Awaitable[list[Row]] | None:
        """Give what runs a statement in one round trip, None where more is needed first."""
        statement = self._prepared.get(text)
        if statement is None or self.raw.is_closed():
            return None
        if self._warnings:
            self._warnings.clear()  # of an earlier statement
        return statement.fetch(*arguments)

    async def run(self, text: str, *arguments: Any) -> list[Row]:
        """Run a statement in a transaction of its own; gives its rows."""
        self._warnings.clear()
        if self._target.pooled:
            # Between two round trips outside a transaction the pooler may take another connection of its own.
            async with self.raw.transaction(isolation="read_committed"):
                await self.raw.execute(self._preamble())
                return await self.raw.fetch(text, *arguments)
        statement = self._prepared.get(text)
        if statement is None:
            # A statement that was prepared and never run would hold its plan's locks against changes of the schema.
            statement = self._prepared[text] = await self.raw.prepare(text)
        return await statement.fetch(*arguments)

    def _preamble(self) -> str:
        durable = "" if self._target.durable else "; SET LOCAL synchronous_commit = off"
        return f"SET LOCAL lock_timeout = {max(round(self._lock_timeout * 1000), 1)}{durable}"

    async def begin(self) -> None:
        """Begin a transaction of several statements."""
        self._warnings.clear()
        begin = f"BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = {_IDLE}"
        await self.raw.execute(f"{begin}; {self._preamble()}" if self._target.pooled else begin)

    async def step(self, text: str, *arguments: Any) -> tuple[list[Row], int]:
        """Run a statement inside the transaction; gives its rows, and how many it touched."""
        statement = self._prepared.get(text)
        if statement is None:
            statement = await self.raw.prepare(text)
            if not self._target.pooled:
                self._prepared[text] = statement
        rows = await statement.fetch(*arguments)
        count = (statement.get_statusmsg() or "").rpartition(" ")[2]
        return rows, int(count) if count.isdigit() else 0

    async def commit(self) -> None:
        """Commit the transaction."""
        await self.raw.execute("COMMIT")

    def settle(self) -> None:
        """Look at what the server warned of, once a write is answered.

        :raises OutcomeUnknownError: it said that the commit is not as durable as asked for: a wait for the synchronous
            standby was cancelled.
        """
        if self._warnings:
            warnings = list(self._warnings)
            self._warnings.clear()
            raise OutcomeUnknownError(
                f"{self._target.place} answered with a warning, and may have committed on this server only: "
                f"{'; '.join(warnings)}"
            )

    def kill(self) -> None:
        """Drop the connection, and whatever runs on it."""
        try:
            self.raw.terminate()
        except RuntimeError:  # its loop is closed, and nobody else would tell the server
            transport = getattr(self.raw, "_transport", None)
            if transport is not None and (found := transport.get_extra_info("socket")) is not None:
                with suppress(OSError):
                    found.shutdown(socket.SHUT_RDWR)

    def give_up(self) -> None:
        """Drop the connection, since nothing came for too long."""
        self.silent = True
        self.kill()

    def why(self, error: Exception) -> Exception:
        """Give the reason of an error that a statement ended in: that we gave up, or the error itself."""
        if not self.silent:
            return error
        found = TimeoutError("it gave no answer in time, see `[database] operation_timeout`")
        found.__cause__ = error
        return found

    async def close(self, timeout: float) -> None:
        """Close the connection; drops it where that takes too long."""
        try:
            await self.raw.close(timeout=timeout)
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self.raw.terminate()
