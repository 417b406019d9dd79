"""Databases on a PostgreSQL server, made for a run and dropped after it."""

from __future__ import annotations

import importlib
from typing import Any
from urllib.parse import urlsplit, urlunsplit

__all__ = ["Postgres", "asyncpg", "driver_url"]


def asyncpg() -> Any:
    """Give the driver, which has no types; imported where it is used, because SQLite needs none of it."""
    return importlib.import_module("asyncpg")


def driver_url(dsn: str, driver: str) -> str:
    """Name SQLAlchemy's driver in a URL.

    :param dsn: `postgresql://...`.
    :param driver: "asyncpg", say.
    """
    return f"postgresql+{driver}:{dsn.partition(':')[2]}"


class Postgres:
    """A server on which databases may be made.

    :param dsn: `postgresql://user@host/database`: a role that may create databases, and a database that exists.
    """

    def __init__(self, dsn: str) -> None:
        scheme, _, rest = dsn.partition("://")
        if scheme.partition("+")[0] not in ("postgresql", "postgres"):
            raise ValueError(f"the URL of a PostgreSQL server is needed, not {dsn!r}")
        self.dsn = f"postgresql://{rest}"

    def at(self, name: str) -> str:
        """Give the URL of one database."""
        return urlunsplit(urlsplit(self.dsn)._replace(path=f"/{name}"))

    async def version(self) -> str:
        """Give the server's version."""
        raw = await asyncpg().connect(self.dsn)
        try:
            return str(await raw.fetchval("SHOW server_version"))
        finally:
            await raw.close()

    async def _execute(self, statement: str) -> None:
        raw = await asyncpg().connect(self.dsn)
        try:
            await raw.execute(statement)
        finally:
            await raw.close()

    async def create(self, name: str, template: str | None = None) -> str:
        """Make a database; gives its URL.

        :param name: letters, digits and `_`.
        :param template: a database to copy, to which nobody is connected.
        """
        await self.drop(name)
        copied = f" TEMPLATE {template} STRATEGY FILE_COPY" if template else ""
        await self._execute(f"CREATE DATABASE {name}{copied}")
        return self.at(name)

    async def drop(self, name: str) -> None:
        """Drop a database, where there is one."""
        await self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
