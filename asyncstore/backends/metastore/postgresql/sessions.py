"""Sessions of SQLAlchemy on PostgreSQL, for the caller to write in."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast
from uuid import uuid4

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool

from ....errors import StoreClosedError
from ....settings import DatabaseSettings
from ..session import close
from .target import Target

__all__ = ["Sessions"]


class Sessions:
    """Open sessions on connections of one event loop, which are kept for the next ones.

    :param target: the database.
    :param settings: the section `[database]`.
    """

    def __init__(self, target: Target, settings: DatabaseSettings) -> None:
        self._target = target
        self._settings = settings
        self._engine: AsyncEngine | None = None
        # Held until they are closed: SQLAlchemy before 2.1 loses one whose opening is cancelled.
        self._links: set[object] = set()
        self._closed = False

    async def _connect(self, **_: object) -> asyncpg.Connection[Any]:
        timeout = self._settings.operation_timeout
        raw = await self._target.connect(lock_timeout=self._settings.lock_timeout, timeout=timeout, planning=False)
        self._links.add(raw)
        raw.add_termination_listener(self._links.discard)
        return raw

    def _make(self) -> AsyncEngine:
        if self._closed:
            raise StoreClosedError(f"the store on {self._target.place} is closed")
        connecting: dict[str, Any] = {"async_creator_fn": self._connect}
        options: dict[str, Any] = {"connect_args": connecting, "isolation_level": "READ COMMITTED"}
        if self._target.pooled:
            # The server's connection changes with every transaction, and others have prepared statements on it.
            connecting |= {"prepared_statement_cache_size": 0, "prepared_statement_name_func": _unused_name}
            options["poolclass"] = NullPool
        else:
            options |= {"poolclass": AsyncAdaptedQueuePool, "pool_size": self._settings.pool_size, "max_overflow": 0}
            options |= {"pool_timeout": self._settings.operation_timeout, "pool_pre_ping": True}
        return create_async_engine("postgresql+asyncpg://", **options)

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[AsyncSession]:
        """Give a session; what is not committed when it is closed is undone."""
        if self._engine is None:
            self._engine = self._make()
        session = AsyncSession(self._engine, expire_on_commit=False)
        try:
            yield session
        finally:
            await close(session)

    async def close(self) -> None:
        """Close the connections; those in use are dropped."""
        self._closed = True
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dispose()
        self.kill()

    def kill(self) -> None:
        """Drop every connection."""
        self._closed = True
        for raw in cast("list[asyncpg.Connection[Any]]", list(self._links)):
            with suppress(RuntimeError):  # its loop is closed
                raw.terminate()


def _unused_name() -> str:
    return f"__asyncstore_{uuid4()}__"
