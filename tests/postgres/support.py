"""What the tests of the infrastructure share."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from tests.postgres.client import Connection, asyncpg, connect

#: What a driver raises for a connection that ends under it.
LOST: tuple[type[Exception], ...] = (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError)


@asynccontextmanager
async def connected(url: str, **options: object) -> AsyncGenerator[Connection]:
    """Open a connection; in the end closes it without a word, since it may be cut."""
    connection = await connect(url, **options)
    try:
        yield connection
    finally:
        connection.terminate()


async def make_table(url: str) -> None:
    async with connected(url) as connection:
        await connection.execute("CREATE TABLE kept (row int)")


async def rows(url: str) -> list[int]:
    async with connected(url) as connection:
        return [row["row"] for row in await connection.fetch("SELECT row FROM kept ORDER BY row")]


async def insert(connection: Connection, row: int) -> None:
    async with connection.transaction():
        await connection.execute("INSERT INTO kept VALUES ($1)", row)
