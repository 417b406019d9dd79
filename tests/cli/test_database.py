from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from asyncstore.backends.metastore import migrate
from tests.cli.support import call, spawn


def set_revision(revision: str) -> None:
    with closing(sqlite3.connect("asyncstore.db")) as raw, raw:
        raw.execute("UPDATE asyncstore_alembic_version SET version_num = ?", (revision,))


@pytest.mark.parametrize("command", ["current", "check"])
def test_a_missing_file_is_said_so_and_not_made(command: str, folder: Path) -> None:
    done = spawn("db", command)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: the database file ")
    assert "asyncstore.db' does not exist; `asyncstore db upgrade` creates it" in done.err
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("command", ["current", "check"])
def test_an_empty_file_stays_as_it_is(command: str, folder: Path) -> None:
    (folder / "asyncstore.db").touch()
    done = call("db", command)
    assert (done.code, done.out) == (1, "")
    assert "has none of asyncstore's tables" in done.err
    assert [(path.name, path.stat().st_size) for path in folder.iterdir()] == [("asyncstore.db", 0)]


def test_upgrade_creates_the_schema_once() -> None:
    first = spawn("db", "upgrade")
    assert (first.code, first.err) == (0, "")
    assert first.out.endswith(f"asyncstore.db': created schema {migrate.HEAD}\n")
    assert call("db", "upgrade").out.endswith(f"has schema {migrate.HEAD} already\n")


def test_upgrade_adds_the_tables_beside_those_of_others(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "asyncstore.db")) as raw, raw:
        raw.execute("CREATE TABLE theirs (id INTEGER)")
    done = call("db", "check")
    assert done.code == 1
    assert "has none of asyncstore's tables; `asyncstore db upgrade` adds them" in done.err
    assert call("events", "list").code == 1
    assert call("db", "upgrade").code == 0
    assert call("db", "check").code == 0


def test_current_prints_the_revision_alone() -> None:
    call("db", "upgrade")
    done = spawn("db", "current")
    assert (done.code, done.out, done.err) == (0, f"{migrate.HEAD}\n", "")


def test_check_is_content_with_this_releases_schema(folder: Path) -> None:
    call("db", "upgrade")
    before = sorted(path.name for path in folder.iterdir())
    done = call("db", "check")
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith(f"schema {migrate.HEAD} is current\n")
    assert sorted(path.name for path in folder.iterdir()) == before


def test_an_outdated_schema_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    call("db", "upgrade")
    older = migrate.HEAD
    monkeypatch.setattr(migrate, "HEAD", "9998")
    done = call("db", "check")
    assert (done.code, done.out) == (1, "")
    assert f"has schema {older}, this release needs 9998; run `asyncstore db upgrade`" in done.err
    assert call("db", "current").out == f"{older}\n"
    assert call("events", "list").code == 1


@pytest.mark.parametrize("command", [["db", "check"], ["db", "upgrade"], ["events", "list"]])
def test_a_newer_schema_is_refused(command: list[str]) -> None:
    call("db", "upgrade")
    set_revision("9999")
    done = call(*command)
    assert (done.code, done.out) == (1, "")
    assert "a newer release wrote it" in done.err
    assert call("db", "current").out == "9999\n"


@pytest.mark.parametrize("command", ["check", "current", "upgrade"])
def test_a_file_that_is_no_database_is_refused_and_left_alone(command: str, folder: Path) -> None:
    (folder / "asyncstore.db").write_bytes(b"not a database, but long enough to be taken for one" * 40)
    before = (folder / "asyncstore.db").read_bytes()
    done = call("db", command)
    assert (done.code, done.out) == (1, "")
    assert "is no SQLite database" in done.err
    assert (folder / "asyncstore.db").read_bytes() == before


def test_a_folder_that_does_not_exist_is_an_error_of_upgrade() -> None:
    done = call("--database", "sqlite+aiosqlite:///missing/asyncstore.db", "db", "upgrade")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: the database file ")


def test_a_database_in_memory_has_nothing_to_look_at() -> None:
    done = call("--database", "sqlite+aiosqlite:///:memory:", "db", "current")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: the in-memory database has none")
