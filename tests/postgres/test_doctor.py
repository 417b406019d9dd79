"""`asyncstore doctor` and looking around, on a real server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anyio.to_thread import run_sync
from click.testing import CliRunner

from asyncstore import connect
from asyncstore.cli import main
from tests.postgres.databases import Databases
from tests.postgres.store_support import ORDERS, TASK
from tests.postgres.support import connected

pytestmark = pytest.mark.anyio


async def call(*args: str) -> tuple[int, list[dict[str, Any]]]:
    done = await run_sync(lambda: CliRunner().invoke(main, args, prog_name="asyncstore"))
    return done.exit_code, [json.loads(line) for line in done.stdout.splitlines()]


async def test_all_is_well(database_url: str) -> None:
    code, found = await call("--database", database_url, "doctor", "--json")
    assert code == 0
    statuses = {each["check"]: each["status"] for each in found}
    # A server of the tests does not sync.
    assert statuses.pop("server") in {"ok", "warning"}
    assert set(statuses.values()) == {"ok"}, found
    assert [*statuses][:6] == ["configuration", "database", "schema", "writing", "rights", "clock"]
    assert next(each for each in found if each["check"] == "server")["message"].startswith("PostgreSQL ")


async def test_a_role_without_rights(database_url: str, postgres: Databases) -> None:
    async with connected(database_url) as connection:
        name = str(await connection.fetchval("SELECT 'reader_' || pg_backend_pid()"))
        await connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'hunter2'")
        try:
            await connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")
            url = postgres.url(database_url.rpartition("/")[2].partition("?")[0], user=name, password="hunter2")
            code, found = await call("--database", url, "doctor", "--json")
        finally:
            await connection.execute(f"DROP OWNED BY {name}")
            await connection.execute(f"DROP ROLE {name}")
    statuses = {each["check"]: each["status"] for each in found}
    assert (code, statuses["writing"], statuses["rights"]) == (1, "failed", "failed")
    assert "hunter2" not in str(found)
    assert "GRANT SELECT, INSERT, UPDATE, DELETE ON asyncstore_asset" in str(found)


async def test_state_by_hand(database_url: str) -> None:
    async with connect(database_url) as store:
        await store.aregister(ORDERS)
    for args in (
        ("asset-store", "set", "orders", "k", "1", "--json"),
        ("task-store", "set", TASK.dag_id, TASK.run_id, TASK.task_id, "k", "2", "--json"),
    ):
        code, (written,) = await call("--database", database_url, *args)
        assert (code, written["key"]) == (0, "k")
        assert written["version"] > 0
    assert (await call("--database", database_url, "task-store", "scopes", "--json"))[1][0]["keys"] == 1
    assert (await call("--database", database_url, "assets", "show", "orders", "--json"))[1][0]["keys"] == 1
    code, gone = await call("--database", database_url, "asset-store", "clear", "orders", "--yes", "--json")
    assert (code, gone) == (0, [{"deleted": 1}])
