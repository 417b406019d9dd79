"""What reading as a consumer costs on SQLite, in statements."""

from __future__ import annotations

from collections import Counter
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from asyncstore import connect
from asyncstore.consumers import reading
from tests.metastore.support import watch_connections

from .support import ORDERS, SETTINGS, options, record, until

pytestmark = pytest.mark.anyio


async def test_an_event_costs_one_statement_and_a_taking_a_few_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_QUICK", 1000.0)  # however busy the machine is
    connections = watch_connections(monkeypatch)
    async with connect(f"sqlite+aiosqlite:///{tmp_path}/state.db", settings=SETTINGS) as store:
        await record(store, 63)
        events: Any = store.events(ORDERS, consumer="loader", settings=options(prefetch=8)).__aiter__()
        async with aclosing(events):
            for _ in range(15):  # 1, 2, 4 and 8 are taken
                await anext(events)
            with connections.counting() as statements:
                for _ in range(40):
                    await anext(events)
    counts = Counter(statements)
    takings = counts["INSERT delivery"]
    assert takings == 5
    assert counts["DELETE delivery"] == 40
    # Each taking: lock and position of the consumer, renewal, who is late, what waits, what is new; after one look.
    assert counts["UPDATE consumer"] == 2 * takings
    assert counts["UPDATE member"] == counts["DELETE member"] == takings
    assert counts["SELECT"] == 3 * takings
    assert counts["BEGIN IMMEDIATE"] == counts["COMMIT"] == 40 + takings
    assert sum(counts.values()) == 3 * 40 + 10 * takings


async def test_a_heartbeat_is_one_statement_and_an_idle_reader_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def keep(*_: object) -> None: ...

    monkeypatch.setattr(reading.Reader, "_share", keep)  # what was taken ahead
    monkeypatch.setattr(reading, "_QUICK", 1000.0)
    connections = watch_connections(monkeypatch)
    async with connect(f"sqlite+aiosqlite:///{tmp_path}/state.db", settings=SETTINGS) as store:
        await record(store, 20)
        events: Any = store.events(ORDERS, consumer="loader", settings=options(heartbeat=0.01)).__aiter__()
        async with aclosing(events):
            for _ in range(10):
                await anext(events)
            assert (await store.alist_consumers())[0].in_hand > 1
            with connections.counting() as statements:
                await until(lambda: sum(each.startswith("COMMIT") for each in connections.statements) >= 3)
        counts = Counter(statements)
        assert set(counts) <= {"BEGIN IMMEDIATE", "UPDATE member", "COMMIT", "SELECT", "PRAGMA data_version"}
        assert counts["UPDATE member"] <= counts["BEGIN IMMEDIATE"]
        assert counts["SELECT"] == 0
