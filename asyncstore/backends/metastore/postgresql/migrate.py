"""The schema of a PostgreSQL database: its revision, and the way to another one."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from ....errors import SchemaError
from ..migrate import BASE, HEAD, check, check_target, known, move
from ..schema import VERSION_TABLE
from .target import Target

__all__ = ["downgrade", "read_revision", "upgrade"]

# Whoever migrates holds it: the next one finds the work done.
_HOLD = "SELECT pg_advisory_xact_lock(1634956147, 3)"


@asynccontextmanager
async def _transaction(target: Target, timeout: float) -> AsyncGenerator[AsyncConnection]:
    async def connect() -> object:
        return await target.connect(lock_timeout=timeout, timeout=timeout, planning=False)

    # Whoever waited for another migration must see what that one did.
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=connect, poolclass=NullPool, isolation_level="READ COMMITTED"
    )
    try:
        async with engine.begin() as connection:
            await connection.execute(text(_HOLD))
            yield connection
    except DBAPIError as error:
        cause = None if error.orig is None else error.orig.__cause__
        raise cause or error from error
    finally:
        await engine.dispose()


async def _revision_of(connection: AsyncConnection) -> str | None:
    """Read the revision; None where there are none of our tables."""
    if not (await connection.execute(text(f"SELECT to_regclass('{VERSION_TABLE}') IS NOT NULL"))).scalar_one():
        return None
    found = (await connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}"))).scalars().all()  # noqa: S608
    if len(found) > 1:
        raise SchemaError(f"{VERSION_TABLE} names {len(found)} revisions; it should name the one that its tables have")
    return str(found[0]) if found else None


async def read_revision(target: Target, timeout: float) -> str | None:
    """Connect and read the revision; changes nothing."""
    async with _transaction(target, timeout) as connection:
        return await _revision_of(connection)


async def upgrade(target: Target, timeout: float) -> tuple[str | None, str]:
    """Bring the schema to this release's revision, once, however many processes do it at the same time."""
    async with _transaction(target, timeout) as connection:
        encoding = (await connection.execute(text("SHOW server_encoding"))).scalar_one()
        if encoding != "UTF8":
            raise SchemaError(f"{target.place} has encoding {encoding}; keys and values need one with UTF8")
        before = await _revision_of(connection)
        if before is not None and before not in known():
            check(before, target.place)
        if before != HEAD:
            await connection.run_sync(lambda raw: move(raw, "head"))
    return before, HEAD


async def downgrade(target: Target, revision: str, timeout: float) -> tuple[str | None, str | None]:
    """Take the schema back to a revision."""
    async with _transaction(target, timeout) as connection:
        before = await _revision_of(connection)
        check_target(before, revision, target.place)
        if before not in {None, revision}:
            await connection.run_sync(lambda raw: move(raw, revision, down=True))
    return before, None if revision == BASE else revision
