"""Three triggerers, three consumers, a folder and a table as sources, and faults of every kind at random.

`ASYNCSTORE_CHAOS_SECONDS` and `ASYNCSTORE_CHAOS_SEED` say how long and which; a short run is part of the suite:
`ASYNCSTORE_CHAOS_SECONDS=1800 python -m pytest -m chaos`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

import pytest

from asyncstore import MetastoreBackend, connect
from tests.postgres.fixtures import MakeServer
from tests.postgres.proxy import Proxy

from .watching import KINDS
from .world import LEASE, World

SECONDS = float(os.environ.get("ASYNCSTORE_CHAOS_SECONDS", "25"))
SEED = int(os.environ.get("ASYNCSTORE_CHAOS_SEED", "20261121"))
#: Seconds without progress until everything has come to rest, in the end.
PATIENCE = 60.0

pytestmark = [pytest.mark.chaos, pytest.mark.crash, pytest.mark.timeout(2 * SECONDS + 2 * PATIENCE + 60)]


@pytest.fixture
def world(make_server: MakeServer, tmp_path: Path) -> Generator[World]:
    server = make_server(fsync=True)
    database = server.create_database()
    asyncio.run(MetastoreBackend(server.url(database)).aupgrade())
    server.fetch("CREATE TABLE source (id bigserial PRIMARY KEY, kind int NOT NULL)", database=database)
    server.fetch("CREATE TABLE loaded (id bigint NOT NULL)", database=database)
    with Proxy.to(server.url(database)) as proxy:
        world = World(server, proxy, database, tmp_path, SEED)
        try:
            yield world
        finally:
            world.close()


def expected(world: World) -> int:
    """Count the items of all sources."""
    (row,) = world.server.fetch("SELECT count(*) AS count FROM source", database=world.database)
    return int(row["count"]) + len(list(world.inbox.iterdir()))


_PROGRESS = """
SELECT count(*) AS told, count(*) FILTER (WHERE NOT EXISTS (SELECT FROM loaded l WHERE l.id = e.id)) AS unloaded
FROM asyncstore_event e
"""


def wait_until_all_is_told_and_handled(world: World) -> None:
    """Wait for an event for each item, and for both consumers to have handled each event."""
    items = expected(world)
    before, ends = (items, items, items), time.monotonic() + PATIENCE
    while True:
        # Counted by the database: whoever waits must not take the time that the others need.
        (row,) = world.server.fetch(_PROGRESS, database=world.database)
        audited = set(world.audits.read_text().split()) if world.audits.exists() else set[str]()
        missing = items - row["told"], row["unloaded"], row["told"] - len(audited)
        if missing[0] <= 0 and missing[1:] == (0, 0):
            return
        if missing != before:
            before, ends = missing, time.monotonic() + PATIENCE
        if time.monotonic() > ends:
            processes = [*world.triggerers, *world.consumers]
            pytest.fail(
                f"for {PATIENCE} s there are missing: events, loaded, audited: {missing}; ended by themselves: "
                f"{[each.name for each in processes if not each.runs]}; the logs end so:\n"
                + "\n".join(f"{each.name}:\n{each.log_end()}" for each in processes)
            )
        time.sleep(1.0)


def judge(world: World, events: list[Any]) -> None:
    """Hold the log to the sources, and the consumers to the log."""
    told: dict[str, list[Any]] = {}
    for event in events:
        told.setdefault(event.asset, []).append(event.payload)
    rows = world.server.fetch("SELECT id, kind FROM source ORDER BY id", database=world.database)
    for kind in range(KINDS):
        ids = [row["id"] for row in rows if row["kind"] == kind]
        assert [payload["id"] for payload in told.get(f"kind {kind}", [])] == ids, f"kind {kind}"
    files = Counter(payload["path"] for payload in told.get("inbox", []))
    assert files == Counter(path.name for path in world.inbox.iterdir())
    loaded = Counter(row["id"] for row in world.server.fetch("SELECT id FROM loaded", database=world.database))
    assert loaded == Counter(event.id for event in events), "each exactly once"
    assert {int(line) for line in world.audits.read_text().split()} == loaded.keys(), "each at least once"


def test_nothing_is_lost_and_nothing_is_doubled(world: World) -> None:
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        time.sleep(world.chance.uniform(0.3, 2.0))
        world.harm()
    world.sources.end()
    wait_until_all_is_told_and_handled(world)
    with connect(world.server.url(world.database)) as store:
        events = cast("list[Any]", store.events().list())
        judge(world, events)
        takeovers = sum(record.fence for record in store.list_watchers())
    audits = Counter(world.audits.read_text().split())
    print(
        f"seed {SEED}, {SECONDS:.0f} s, lease {LEASE:.0f} s: {len(events)} events, {takeovers} changes of hands, "
        f"{sum(audits.values()) - len(audits)} events handled again by the consumer without a transaction; "
        f"faults: {dict(sorted(world.faults.items()))}"
    )
