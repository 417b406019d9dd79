"""The two databases, behind one interface: make one, fill it fast, copy it, drop it."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from abc import ABC, abstractmethod
from contextlib import closing
from pathlib import Path
from typing import final

from asyncstore import Asset, MetastoreBackend, Settings, connect

from . import filling
from .postgres import Postgres, asyncpg, driver_url

__all__ = ["PostgresSite", "Site", "SqliteSite", "upgrade"]


class Site(ABC):
    """Where databases of one kind are.

    :ivar title: the database's name.
    :ivar short: the same for file names.
    :ivar dialect: how rows are made in SQL.
    """

    title: str
    short: str
    dialect: filling.Dialect

    @abstractmethod
    async def make(self, purpose: str) -> str:
        """Make an empty database; gives its URL for `connect`.

        :param purpose: its name: letters, digits and `_`.
        """

    @abstractmethod
    async def copy(self, purpose: str, source: str) -> str:
        """Copy a database to which nobody is connected; gives the copy's URL."""

    @abstractmethod
    async def drop(self, purpose: str) -> None:
        """Drop a database, where there is one."""

    @abstractmethod
    async def run(self, purpose: str, statements: list[str]) -> None:
        """Run statements in one transaction, and leave the database as its own upkeep would."""

    @abstractmethod
    def plain(self, purpose: str) -> str:
        """Give what the bare driver connects to."""

    async def with_asset(self, purpose: str, asset: Asset, rows: int) -> tuple[str, int]:
        """Make a database with our tables and rows of one asset's state; gives its URL and the asset's id."""
        url = await self._with_tables(purpose)
        async with connect(url, settings=Settings()) as store:
            scope = (await store.aregister(asset)).scope
        if scope.asset_id is None:
            raise RuntimeError(f"{asset} was registered without an id")
        await self.run(purpose, filling.asset_rows(self.dialect, scope.asset_id, rows))
        return url, scope.asset_id

    async def with_garbage(self, purpose: str, expired: int, fresh: int) -> str:
        """Make a database with our tables and rows of tasks, of which the first ones have expired; gives its URL."""
        url = await self._with_tables(purpose)
        await self.run(purpose, filling.task_rows(self.dialect, expired, fresh))
        return url

    async def _with_tables(self, purpose: str) -> str:
        url = await self.make(purpose)
        await upgrade(url)
        return url


async def upgrade(url: str) -> None:
    """Do what `asyncstore db upgrade` does."""
    backend = MetastoreBackend(url)
    try:
        await backend.aupgrade()
    finally:
        await backend.aclose()


@final
class SqliteSite(Site):
    """SQLite files.

    :param folder: where they are.
    """

    title = "SQLite"
    short = "sqlite"
    dialect = filling.SQLITE

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, purpose: str) -> Path:
        """Give the file of a database."""
        return self.folder / f"{purpose}.db"

    def plain(self, purpose: str) -> str:
        """Give the path."""
        return str(self.path(purpose))

    def _url(self, purpose: str) -> str:
        return f"sqlite+aiosqlite:///{self.path(purpose)}"

    async def make(self, purpose: str) -> str:
        """Forget an old file."""
        await self.drop(purpose)
        return self._url(purpose)

    async def copy(self, purpose: str, source: str) -> str:
        """Copy the file, which holds everything once the last connection is closed."""
        await self.drop(purpose)
        await asyncio.to_thread(shutil.copyfile, self.path(source), self.path(purpose))
        return self._url(purpose)

    async def drop(self, purpose: str) -> None:
        """Delete the file and those beside it."""
        await asyncio.to_thread(self._unlink, purpose)

    def _unlink(self, purpose: str) -> None:
        for suffix in ("", "-wal", "-shm", "-queue"):
            Path(f"{self.path(purpose)}{suffix}").unlink(missing_ok=True)

    async def run(self, purpose: str, statements: list[str]) -> None:
        """Run them with one fsync."""

        def work() -> None:
            with closing(sqlite3.connect(self.path(purpose), isolation_level=None)) as raw:
                raw.execute("BEGIN")
                for statement in statements:
                    raw.execute(statement)
                raw.execute("COMMIT")
                raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")

        await asyncio.to_thread(work)


@final
class PostgresSite(Site):
    """Databases on a PostgreSQL server.

    :param server: the server.
    :param prefix: what the names of the databases begin with.
    """

    title = "PostgreSQL"
    short = "postgresql"
    dialect = filling.POSTGRES

    def __init__(self, server: Postgres, prefix: str) -> None:
        self.server = server
        self._prefix = prefix
        self._made: set[str] = set()

    def _name(self, purpose: str) -> str:
        return f"{self._prefix}_{purpose}"

    def plain(self, purpose: str) -> str:
        """Give the URL for asyncpg."""
        return self.server.at(self._name(purpose))

    async def make(self, purpose: str) -> str:
        """Create it."""
        self._made.add(purpose)
        return driver_url(await self.server.create(self._name(purpose)), "asyncpg")

    async def copy(self, purpose: str, source: str) -> str:
        """Create it from a template."""
        self._made.add(purpose)
        return driver_url(await self.server.create(self._name(purpose), self._name(source)), "asyncpg")

    async def drop(self, purpose: str) -> None:
        """Drop it."""
        self._made.discard(purpose)
        await self.server.drop(self._name(purpose))

    async def drop_all(self) -> None:
        """Drop every database that was made."""
        for purpose in sorted(self._made):
            await self.drop(purpose)

    async def run(self, purpose: str, statements: list[str]) -> None:
        """Run them, and vacuum."""
        raw = await asyncpg().connect(self.plain(purpose))
        try:
            async with raw.transaction():
                for statement in statements:
                    await raw.execute(statement)
            await raw.execute("VACUUM (ANALYZE)")
            await raw.execute("CHECKPOINT")
        finally:
            await raw.close()
