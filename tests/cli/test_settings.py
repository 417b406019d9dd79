from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.support import SCRIPT, call, spawn

BACKEND = """
from asyncstore import BaseStoreBackend

class Own(BaseStoreBackend):
    async def aget(self, scope, key, *, session=None): ...
    async def aset(self, scope, key, value, *, expires_at=None, session=None): ...
    async def adelete(self, scope, key, *, session=None): ...
    async def aclear(self, scope, *, all_map_indices=False, session=None): ...
"""


def test_the_database_option_wins_over_the_environment_and_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "asyncstore.toml").write_text('[database]\nurl = "sqlite+aiosqlite:///file.db"\n')
    call("db", "upgrade")
    assert (folder / "file.db").exists()
    monkeypatch.setenv("ASYNCSTORE__DATABASE__URL", "sqlite+aiosqlite:///environment.db")
    call("db", "upgrade")
    assert (folder / "environment.db").exists()
    call("--database", "sqlite+aiosqlite:///option.db", "db", "upgrade")
    assert (folder / "option.db").exists()
    assert not (folder / "asyncstore.db").exists()


def test_the_config_option_names_the_file_and_wins_over_the_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "other.toml").write_text('[database]\nurl = "sqlite+aiosqlite:///other.db"\n')
    monkeypatch.setenv("ASYNCSTORE_CONFIG", "missing.toml")
    assert call("db", "upgrade").code == 2
    assert call("--config", "other.toml", "db", "upgrade").code == 0
    assert (folder / "other.db").exists()


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--config", "missing.toml"], "missing.toml: cannot be read"),
        (["--database", "nonsense"], "error: [database] url = 'nonsense' (argument): allowed is a URL"),
        (["--database", ""], "error: [database] url = '' (argument): allowed is a URL"),
        (["--database", "mysql://u:geheim@host/db"], "'mysql' is not supported"),
    ],
)
@pytest.mark.parametrize(
    "command",
    [["db", "check"], ["events", "list"], ["state-store", "cleanup-task-store"], ["state-store", "sweep-assets"]],
)
def test_bad_settings_are_told_by_every_command(args: list[str], told: str, command: list[str], folder: Path) -> None:
    done = call(*args, *command)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert told in done.err
    assert "geheim" not in done.err
    assert list(folder.iterdir()) == []


def test_every_problem_of_a_file_is_a_line(folder: Path) -> None:
    (folder / "asyncstore.toml").write_text("[state_store]\nnope = 1\n[database]\nlock_timeout = -1\n")
    done = call("events", "list")
    assert done.code == 2
    assert [line[:7] for line in done.err.splitlines()] == ["error: ", "error: "]


def test_a_backend_is_found_in_the_working_directory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "own_backend.py").write_text(BACKEND)
    monkeypatch.setenv("ASYNCSTORE__STATE_STORE__BACKEND", "own_backend.Own")
    done = spawn("state-store", "cleanup-task-store", program=SCRIPT)
    assert (done.code, done.out, done.err) == (0, "Skipped: Own has no cleanup of its own\n", "")
    assert not (folder / "asyncstore.db").exists()
    done = spawn("state-store", "cleanup-task-store", program=SCRIPT, env={"PYTHONSAFEPATH": "1"})
    assert (done.code, done.out) == (2, "")
    assert "'own_backend.Own' cannot be imported" in done.err


def test_nothing_in_the_working_directory_hides_an_installed_module(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "aiosqlite.py").write_text("raise SystemExit('taken over')")
    (folder / "own_backend.py").write_text(BACKEND + "import aiosqlite\naiosqlite.connect\n")
    monkeypatch.setenv("ASYNCSTORE__STATE_STORE__BACKEND", "own_backend.Own")
    done = spawn("state-store", "cleanup-task-store", program=SCRIPT)
    assert (done.code, done.err) == (0, "")


def test_the_database_option_asks_for_the_metastore_whatever_backend_is_configured(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASYNCSTORE__STATE_STORE__BACKEND", "nowhere.Own")
    assert "cannot be imported" in call("events", "list").err
    monkeypatch.setenv("ASYNCSTORE__STATE_STORE__BACKEND", "asyncstore.MemoryBackend")
    refused = call("db", "upgrade")
    assert refused.code == 2
    assert "no metastore is in use" in refused.err
    assert list(folder.iterdir()) == []
    assert call("--database", "sqlite+aiosqlite:///named.db", "events", "list").code == 0
    assert call("--database", "sqlite+aiosqlite:///named.db", "db", "check").code == 0
