from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from asyncstore.settings import list_options
from tests.cli.support import Done, call, on_terminal

SECRET = "hunter2"


def objects(done: Done) -> dict[str, dict[str, Any]]:
    assert (done.code, done.err) == (0, "")
    return {found["option"]: found for found in map(json.loads, done.out.splitlines())}


def test_every_option_with_its_value_and_where_it_came_from(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "asyncstore.toml").write_text("[state_store]\ndefault_retention_days = 90\nclear_on_success = true\n")
    monkeypatch.setenv("ASYNCSTORE__STATE_STORE__CLEAR_ON_SUCCESS", "false")
    monkeypatch.setenv("ASYNCSTORE__COMMON_IO__STATE_STORE_OBJECTSTORAGE_THRESHOLD", "5")
    found = objects(call("--database", "sqlite+aiosqlite:///other.db", "config", "show", "--json"))
    assert list(found) == [str(option) for option in list_options()]
    assert list(found["[database] url"]) == ["option", "value", "source", "origin"]
    told = {name: (each["value"], each["source"], each["origin"]) for name, each in found.items()}
    assert told["[database] url"] == ("sqlite+aiosqlite:///other.db", "argument", None)
    assert told["[state_store] default_retention_days"] == (90.0, "file", str(folder / "asyncstore.toml"))
    variable = "ASYNCSTORE__STATE_STORE__CLEAR_ON_SUCCESS"
    assert told["[state_store] clear_on_success"] == (False, "environment", variable)
    assert told["[common.io] state_store_objectstorage_threshold"][0] == 5
    assert told["[workers] state_backend"] == (None, "default", None)
    assert told["[database] lock_timeout"] == (5.0, "default", None)


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"postgresql+asyncpg://app:{SECRET}@db/state?sslpassword={SECRET}"
    monkeypatch.setenv("ASYNCSTORE__DATABASE__URL", url)
    monkeypatch.setenv("ASYNCSTORE_CONN_LAKE", f'{{"secret_access_key": "{SECRET}"}}')
    for args in ([], ["--json"], ["--changed"]):
        done = call("config", "show", *args)
        assert done.code == 0
        assert SECRET not in done.out
        assert "postgresql+asyncpg://app:***@db/state?sslpassword=***" in done.out
        assert "connection LAKE" in done.out
    assert SECRET not in on_terminal(monkeypatch, "config", "show").out
    assert SECRET not in call("--database", url, "config", "show").out


def test_changed_leaves_the_defaults_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert call("config", "show", "--changed") == Done(0, "", "")
    monkeypatch.setenv("ASYNCSTORE__STATE_STORE__KEEP_EVENTS_COUNT", "3")
    assert call("config", "show", "--changed").out == (
        "[state_store] keep_events_count\t3\tenvironment\tASYNCSTORE__STATE_STORE__KEEP_EVENTS_COUNT\n"
    )


def test_the_table_fits_and_nothing_is_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    shown = on_terminal(monkeypatch, "config", "show")
    assert shown.out.splitlines()[0].split() == ["OPTION", "VALUE", "SOURCE", "ORIGIN"]
    assert max(map(len, shown.out.splitlines())) <= 80
    assert "false" in shown.out
    assert list(folder.iterdir()) == []


def test_what_is_wrong_is_told_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYNCSTORE__DATABASE__LOCK_TIMEOUT", "-1")
    monkeypatch.setenv("ASYNCSTORE__DATABASE__NOPE", "1")
    done = call("config", "show")
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 2
