"""The table watcher killed at every await, on real databases that change while nobody watches."""

from __future__ import annotations

from typing import Any

import pytest

from triggers import TableTrigger
from triggers.testing import Fault, crash_everywhere_sync

from .support import Database, PostgresDatabase, SqliteFile

#: Connections of a killed process end with it; those of a killed loop would stay.
_END = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <>"
    " pg_backend_pid()"
)


def begin(database: Database) -> None:
    if isinstance(database, PostgresDatabase):
        database.run(_END)
    database.run("DELETE FROM orders")
    database.insert(10, 11, 12, at="2026-01-01 00:00:00")
    database.insert(20, at="2026-01-01 00:00:40")


def change(database: Database) -> None:
    if isinstance(database, PostgresDatabase):
        database.run(_END)
    database.insert(5, 15, at="2026-01-01 00:00:00")  # committed late
    database.insert(30, at="2026-01-01 00:01:00")


OPTIONS: list[dict[str, Any]] = [
    {"column": "id", "overlap": 100},
    {"column": "at", "batch": 2},
    {"column": "at", "new_only": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
@pytest.mark.parametrize("once", [True, False])
def test_every_row_is_told_once(sqlite: SqliteFile, options: dict[str, Any], once: bool) -> None:
    crash(sqlite, once=once, **options)


def test_every_row_is_told_once_from_a_server(postgresql: PostgresDatabase) -> None:
    crash(postgresql, column="at", batch=2, once=True)
    postgresql.run(_END)


def crash(database: Database, **options: Any) -> None:
    database.make()
    late = [5, 15, 30]
    there = [] if options.get("new_only") else [10, 11, 12, 20]
    report = crash_everywhere_sync(
        lambda: database.trigger(interval=60.0, **options),
        source=lambda: begin(database),
        between=lambda: change(database),
        expected=[{"id": number} for number in ([] if not there else there + late)],
        optional=[{"id": number} for number in late if not there],
        identify=lambda payload: payload["id"],
        ordered=False,
        faults=[Fault.KILL, Fault.BUSY, Fault.UNKNOWN_LOST, Fault.UNKNOWN_MADE],
    )
    report.check()
    assert len(report.points) > 10


class Forgetful(TableTrigger):
    """Wrong: without the marks of the window."""

    def _event(self, payload: Any, kept: Any) -> Any:
        return super()._event(payload, {"watermark": kept["watermark"]})


def test_the_kit_would_see_a_watcher_that_keeps_no_window(sqlite: SqliteFile) -> None:
    sqlite.make()
    report = crash_everywhere_sync(
        lambda: Forgetful(sqlite.url, "orders", interval=60.0, once=True),
        source=lambda: begin(sqlite),
        ordered=False,
        identify=lambda payload: payload["id"],
    )
    assert report.doubled
