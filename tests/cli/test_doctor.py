from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from asyncstore import Asset, Lease, ManualClock, MetastoreBackend, TaskScope, WatcherState, connect
from asyncstore.backends.metastore import examining
from asyncstore.backends.metastore.postgresql.examining import examine_server
from asyncstore.doctor import standing
from asyncstore.doctor.records import Status
from tests.cli.support import LONG_AGO, URL, Done, call, expire, on_terminal, record

ORDERS = Asset("orders")
CHECKS = [
    *("configuration", "database", "schema", "writing", "server", "disk", "clock", "worker", "triggerers", "watchers"),
    *("consumers", "garbage"),
]


def findings(done: Done) -> dict[str, dict[str, Any]]:
    assert done.err == ""
    found = [json.loads(line) for line in done.out.splitlines()]
    assert all(list(each) == ["status", "check", "message", "fix"] for each in found)
    assert all((each["fix"] is None) == (each["status"] in {"ok", "skipped"}) for each in found)
    assert done.code == any(each["status"] == "failed" for each in found)
    return {each["check"]: each for each in found}


def look(*args: str) -> dict[str, dict[str, Any]]:
    return findings(call(*args, "doctor", "--json"))


def test_all_is_well() -> None:
    call("db", "upgrade")
    found = look()
    assert list(found) == CHECKS
    assert {each["status"] for each in found.values()} == {"ok"}
    rows = [line.split("\t") for line in call("doctor").out.splitlines()]
    assert [row[:2] for row in rows] == [["ok", check] for check in CHECKS]


def test_nothing_stays(folder: Path) -> None:
    call("assets", "register", "orders")
    dumps: list[list[str]] = []
    for _ in range(2):
        with sqlite3.connect(folder / "asyncstore.db") as raw:
            dumps.append(list(raw.iterdump()))
        raw.close()
        look()
    assert dumps[0] == dumps[1]


def test_a_file_whose_folder_is_not_there_cannot_be_made() -> None:
    done = call("--database", "sqlite+aiosqlite:///nowhere/x.db", "doctor", "--json")
    found = findings(done)["database"]
    assert (done.code, found["status"]) == (1, "failed")
    assert "nor does its folder" in found["message"]


def test_a_file_that_is_something_else_is_left_alone(folder: Path) -> None:
    file = folder / "asyncstore.db"
    file.write_text("a letter, and not short of words")
    found = look()["database"]
    assert found["status"] == "failed"
    assert "no SQLite database" in found["message"]
    assert found["fix"].startswith("correct [database] url")
    assert file.read_text() == "a letter, and not short of words"


def test_a_file_that_is_not_there_is_not_made(folder: Path) -> None:
    found = look()
    assert list(found) == ["configuration", "database", "worker", "watchers"]
    assert (found["database"]["status"], found["watchers"]["status"]) == ("warning", "skipped")
    assert list(folder.iterdir()) == []


def test_the_lines_of_a_terminal_fit_and_are_coloured(monkeypatch: pytest.MonkeyPatch) -> None:
    call("db", "upgrade")
    monkeypatch.setenv("ASYNCSTORE__WORKERS__STATE_BACKEND", "nowhere.Class")
    shown = on_terminal(monkeypatch, "doctor")
    assert shown.code == 1
    assert "\x1b[32m\x1b[1mok      \x1b[0m schema" in shown.out
    assert "\x1b[31m\x1b[1mfailed  \x1b[0m worker" in shown.out
    monkeypatch.setenv("NO_COLOR", "1")
    plain = on_terminal(monkeypatch, "doctor").out
    assert "\x1b" not in plain
    assert max(map(len, plain.splitlines())) <= 80
    assert "\n" + " " * 24 + "fix: correct [workers] state_backend" in plain


def test_a_wrong_configuration_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYNCSTORE__DATABASE__NOPE", "1")
    found = look()
    assert list(found) == ["configuration"]
    assert "unknown option" in found["configuration"]["message"]


def test_a_database_that_cannot_be_reached_shows_no_password() -> None:
    done = call("--database", "postgresql+asyncpg://app:hunter2@localhost:1/state", "doctor", "--json")
    found = findings(done)
    assert (found["database"]["status"], found["watchers"]["status"]) == ("failed", "skipped")
    assert "hunter2" not in done.out


def test_an_old_schema_names_the_upgrade() -> None:
    call("db", "upgrade")
    call("db", "downgrade", "0001", "--yes")
    found = look()
    assert found["schema"]["status"] == "failed"
    assert "asyncstore db upgrade" in found["schema"]["fix"]
    assert "writing" not in found


def test_a_file_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    call("db", "upgrade")
    monkeypatch.setenv("ASYNCSTORE__DATABASE__LOCK_TIMEOUT", "0.05")
    other = sqlite3.connect("asyncstore.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        assert look()["writing"]["status"] == "failed"
    finally:
        other.close()


def test_a_full_disk_and_an_old_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> SimpleNamespace:
        return SimpleNamespace(free=1000)

    def old(raw: sqlite3.Connection) -> str:
        return "delete"

    call("db", "upgrade")
    monkeypatch.setattr(shutil, "disk_usage", full)
    monkeypatch.setattr("asyncstore.backends.metastore.sqlite.examining.journal_mode", old)
    found = look()
    assert (found["disk"]["status"], found["server"]["status"]) == ("warning", "warning")


@pytest.mark.parametrize(("ahead", "status"), [(0.0, "ok"), (5.0, "warning"), (-5.0, "warning"), (600.0, "failed")])
def test_two_clocks(ahead: float, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    call("db", "upgrade")
    monkeypatch.setattr(examining, "time", SimpleNamespace(time=lambda: time.time() - ahead))
    assert look()["clock"]["status"] == status


def test_a_clock_that_was_set_back() -> None:
    async def in_the_future() -> None:
        async with connect(URL, clock=ManualClock(datetime.now(UTC) + timedelta(hours=1))) as store:
            watcher = await store.aclaim_watcher(ORDERS, "scan", owner="tests")
            await watcher.acommit(await watcher.prepare(1, None, None))

    asyncio.run(in_the_future())
    found = look()["clock"]
    assert found["status"] == "warning"
    assert "it was set back" in found["message"]


# The worker-side backend


def worker(monkeypatch: pytest.MonkeyPatch, path: str, url: str | None = None, threshold: int = 0) -> None:
    monkeypatch.setenv("ASYNCSTORE__WORKERS__STATE_BACKEND", path)
    if url is not None:
        monkeypatch.setenv("ASYNCSTORE__COMMON_IO__STATE_STORE_OBJECTSTORAGE_PATH", url)
        monkeypatch.setenv("ASYNCSTORE__COMMON_IO__STATE_STORE_OBJECTSTORAGE_THRESHOLD", str(threshold))


@pytest.mark.parametrize("threshold", [0, 10_000])
def test_a_worker_side_backend_that_works_is_left_as_it_was(
    threshold: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    worker(monkeypatch, "asyncstore.ObjectStorageBackend", (tmp_path / "objects").as_uri(), threshold)
    found = look()["worker"]
    assert found["status"] == "ok"
    assert "put, read and deleted an object" in found["message"]
    assert not [path for path in (tmp_path / "objects").rglob("*") if path.is_file()]


def test_a_threshold_that_nothing_reaches_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    worker(monkeypatch, "asyncstore.ObjectStorageBackend", tmp_path.as_uri(), 10**9)
    assert look()["worker"]["status"] == "warning"


def test_a_place_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    worker(monkeypatch, "asyncstore.ObjectStorageBackend", (tmp_path / "file").as_uri())
    found = look()["worker"]
    assert found["status"] == "failed"
    assert "[common.io]" in found["fix"]


@pytest.mark.parametrize("loads", ["value", "'other'"])
def test_a_worker_side_backend_of_somebody_elses(loads: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"kept_{len(loads)}"
    lines = [
        "from asyncstore import BaseStoreBackend",
        "ROWS = {}",
        "class Kept(BaseStoreBackend):",
        *(f"    async def {each}(self, *a, **k): ROWS.clear()" for each in ("aget", "aset", "adelete", "aclear")),
        "    def serialize_task_store_to_ref(self, *, value, key, ti_id):",
        "        ROWS[key] = value",
        "        return key",
        "    def deserialize_task_store_from_ref(self, stored):",
        "        value = ROWS[stored]",
        f"        return {loads}",
    ]
    (folder / f"{name}.py").write_text("\n".join(lines))
    monkeypatch.setattr("sys.path", [str(folder), *__import__("sys").path])
    worker(monkeypatch, f"{name}.Kept")
    assert look()["worker"]["status"] == ("ok" if loads == "value" else "failed")


# How the store stands


def test_watchers_that_fail_and_that_wait() -> None:
    async def report(state: WatcherState) -> None:
        async with connect(URL) as store:
            claimed = await store.aclaim_watcher(ORDERS, "scan", owner="tests")
            lease: Lease = claimed.lease
            await store.backend.areport_watcher(lease, state, error="Traceback ...")

    asyncio.run(report(WatcherState.CRASH_LOOPING))
    found = look()["watchers"]
    assert (found["status"], found["message"]) == ("warning", "1 of 1 fail: orders/scan")
    asyncio.run(report(WatcherState.WAITING))
    assert look()["watchers"]["message"] == "1 wait and no triggerer is alive: orders/scan"


def test_consumers_that_lag_and_events_that_were_set_aside() -> None:
    asyncio.run(record(ORDERS, [1, 2, 3]))
    call("events", "tail", "orders", "--consumer", "loader", "--limit", "1")
    found = look()["consumers"]
    assert (found["status"], found["message"]) == ("warning", "2 events wait: loader of orders")


def test_triggerers_that_are_overdue() -> None:
    async def join() -> None:
        async with connect(URL, clock=ManualClock(LONG_AGO)) as store:
            span = timedelta(seconds=15)
            await store.backend.fleet.ajoin("host:1", token="token", capacity=5, watchers=(), lease=span)

    asyncio.run(join())
    found = look()["triggerers"]
    assert (found["status"], found["message"]) == ("warning", "0 alive, 1 overdue: host:1")


def test_garbage_that_nobody_collects(monkeypatch: pytest.MonkeyPatch) -> None:
    expire(TaskScope("etl", "run", "load"), "a", "b")
    assert look()["garbage"]["message"].startswith("2 expired rows of task state, 0 rows")
    monkeypatch.setattr(standing, "_GARBAGE", 2)
    assert look()["garbage"]["status"] == "warning"


def test_a_backend_of_ones_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["from asyncstore import BaseStoreBackend", "class Own(BaseStoreBackend):"]
    lines += [f"    async def {each}(self, *a, **k): ..." for each in ("aget", "aset", "adelete", "aclear")]
    (folder / "own_doctored.py").write_text("\n".join(lines))
    monkeypatch.setattr("sys.path", [str(folder), *__import__("sys").path])
    monkeypatch.setenv("ASYNCSTORE__STATE_STORE__BACKEND", "own_doctored.Own")
    found = look()
    assert {name: each["status"] for name, each in found.items()} == {
        "configuration": "ok",
        "database": "skipped",
        "worker": "ok",
        "watchers": "skipped",
    }
    monkeypatch.setenv("ASYNCSTORE__STATE_STORE__BACKEND", "own_doctored.Other")
    assert look()["database"]["status"] == "failed"


# What a server says of itself

FACTS = ("16.1", "160001", "100", "on", "on", 5, False)


@pytest.mark.parametrize(
    ("change", "lacking", "server", "rights"),
    [
        ({}, [], Status.OK, Status.OK),
        ({1: "110000"}, [], Status.FAILED, Status.OK),
        ({3: "off"}, [], Status.WARNING, Status.OK),
        ({4: "off"}, [], Status.WARNING, Status.OK),
        ({5: 95}, [], Status.WARNING, Status.OK),
        ({6: True}, ["asyncstore_event"], Status.FAILED, Status.FAILED),
    ],
)
def test_a_server_is_judged(change: dict[int, Any], lacking: list[str], server: Status, rights: Status) -> None:
    facts = [change.get(place, value) for place, value in enumerate(FACTS)]
    found = list(examine_server(facts, lacking))
    assert [each.status for each in found] == [server, rights]
    assert all(name in (found[1].fix or "") for name in lacking)


def test_help_fits_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MetastoreBackend, "aopen", None)
    lines = call("doctor", "--help").out.splitlines()
    assert max(map(len, lines)) <= 80
