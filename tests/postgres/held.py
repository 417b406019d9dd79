"""Transactions of somebody else, which hold locks, and what waits for them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from tests.postgres.client import Connection
from tests.postgres.store_support import eventually
from tests.postgres.support import connected

#: Holds up every event.
EVENTS = "SELECT FROM asyncstore_revision FOR UPDATE"
_WAITING = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE wait_event_type = 'Lock' AND application_name = 'asyncstore' AND datname = current_database()"
)


def rows_of(*keys: str) -> str:
    """Give the query that holds task state."""
    listed = ", ".join(f"'{key}'" for key in keys)
    return f"SELECT FROM asyncstore_task_state WHERE key IN ({listed}) ORDER BY key FOR UPDATE"


@asynccontextmanager
async def held(url: str, query: str) -> AsyncGenerator[Connection]:
    """Hold what a query locks, until the block ends or `ROLLBACK`."""
    async with connected(url) as bare:
        await bare.execute("BEGIN")
        await bare.execute(query)
        yield bare


async def waiting(bare: Connection, count: int = 1) -> None:
    """Wait until at least so many connections of a store wait for a lock."""

    async def enough() -> bool:
        # What was seen once is seen again for as long as a transaction goes on.
        await bare.execute("SELECT pg_stat_clear_snapshot()")
        return bool(await bare.fetchval(_WAITING) >= count)

    await eventually(enough, f"{count} to wait")
