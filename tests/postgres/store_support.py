"""What the tests of the store on PostgreSQL share: a migrated database, a store on it, and what it holds."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from asyncstore import Asset, MetastoreBackend, Store, TaskScope, connect
from tests.postgres.databases import Databases
from tests.postgres.processes import PATIENCE
from tests.postgres.support import connected

TASK = TaskScope("dag", "run", "task")
ORDERS = Asset("orders", uri="s3://warehouse/orders/")

#: Seconds that an operation may take here, and seconds more that a busy machine gets to say so.
OPERATION_TIMEOUT = 2.5
GRACE = 2.0

# Counts the rows that each transaction wrote: what is written in two of them counts twice, whatever it leaves behind.
_AUDIT = """
CREATE TABLE audit (transaction text NOT NULL, name text NOT NULL, place jsonb[] NOT NULL);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  touched jsonb := to_jsonb(coalesce(NEW, OLD));
BEGIN
  INSERT INTO audit SELECT pg_current_xact_id(), TG_TABLE_NAME, ARRAY[
    touched -> 'id', touched -> 'asset_id', touched -> 'task_instance_id', touched -> 'key'];
  RETURN NULL;
END $$;
"""
_AUDITED = ("asset", "asset_state", "task_state", "event")


async def upgrade(url: str) -> None:
    """Make the tables."""
    backend = MetastoreBackend(url)
    await backend.aupgrade()
    await backend.aclose()


async def upgrade_audited(url: str) -> None:
    """Make the tables, and one that counts what is written to them."""
    await upgrade(url)
    async with connected(url) as connection:
        await connection.execute(_AUDIT)
        for table in _AUDITED:
            await connection.execute(
                f"CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON asyncstore_{table} "
                "FOR EACH ROW EXECUTE FUNCTION audit()"
            )


def migrated(postgres: Databases) -> str:
    """Name a database with the tables, to be copied."""
    return postgres.make_template("migrated", lambda url: asyncio.run(upgrade(url)))


def audited(postgres: Databases) -> str:
    """Name a database with the tables and the audit, to be copied."""
    return postgres.make_template("audited", lambda url: asyncio.run(upgrade_audited(url)))


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncGenerator[Store]:
    """Open a store that is impatient."""
    options = {"operation_timeout": OPERATION_TIMEOUT, "lock_timeout": 1.0, **options}
    async with MetastoreBackend(url, **options) as backend, connect(backend=backend) as store:
        yield store


@dataclass
class Kept:
    """What a database holds, as a bare connection sees it."""

    assets: set[str] = field(default_factory=set[str])
    values: dict[tuple[str, str], Any] = field(default_factory=dict[tuple[str, str], Any])
    events: list[tuple[Any, str | None]] = field(default_factory=list[tuple[Any, "str | None"]])


@dataclass
class Looked:
    """A look at a database: what it holds, the versions, and how many writes were counted."""

    kept: Kept
    versions: dict[tuple[str, str], int]
    writes: int


async def look(url: str) -> Looked:
    """Look at a database that has the audit."""
    async with connected(url) as connection:
        assets = await connection.fetch("SELECT id, name FROM asyncstore_asset")
        states = await connection.fetch(
            "SELECT a.name AS owner, s.key, s.value, s.version FROM asyncstore_asset_state s"
            " JOIN asyncstore_asset a ON a.id = s.asset_id UNION ALL"
            " SELECT t.task_id, s.key, s.value, s.version FROM asyncstore_task_state s"
            " JOIN asyncstore_task_instance t ON t.id = s.task_instance_id"
        )
        events = await connection.fetch("SELECT payload, key FROM asyncstore_event ORDER BY id")
        return Looked(
            Kept(
                {row["name"] for row in assets},
                {(row["owner"], row["key"]): json.loads(row["value"]) for row in states},
                [(json.loads(row["payload"]), row["key"]) for row in events],
            ),
            {(row["owner"], row["key"]): row["version"] for row in states},
            await connection.fetchval("SELECT count(DISTINCT (transaction, name, place)) FROM audit"),
        )


async def eventually(
    condition: Callable[[], bool | Awaitable[bool]], what: str, *, patience: float = PATIENCE, every: float = 0.01
) -> None:
    """Wait for a condition, without blocking the loop.

    :raises TimeoutError: It did not come true; says what was waited for.
    """
    deadline = time.monotonic() + patience
    while True:
        found = condition()
        if found if isinstance(found, bool) else await found:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {patience} s in vain for {what}")
        await asyncio.sleep(every)
