from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest

from asyncstore import Asset, MetastoreBackend, TaskScope, connect
from tests.cli.support import URL, call, environment, keep, record

SHELLS = ["bash", "zsh", "fish"]


def offered(monkeypatch: pytest.MonkeyPatch, line: str) -> list[str]:
    """Give what bash is offered for the last word of a line."""
    words = line.split(" ")
    with monkeypatch.context() as patch:
        patch.setenv("_ASYNCSTORE_COMPLETE", "bash_complete")
        patch.setenv("COMP_WORDS", line)
        patch.setenv("COMP_CWORD", str(len(words) - 1))
        done = call()
    assert (done.code, done.err) == (0, "")
    return [each.partition(",")[2] for each in done.out.splitlines() if each]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_the_shells_own_and_parses(shell: str) -> None:
    done = call("completion", shell)
    assert (done.code, done.err) == (0, "")
    assert "_ASYNCSTORE_COMPLETE" in done.out
    program = shutil.which(shell)
    if program is not None:
        subprocess.run([program, "-n", "/dev/stdin"], input=done.out, text=True, check=True, env=environment())


def test_another_shell_is_refused() -> None:
    assert call("completion", "tcsh").code == 2


def test_commands_options_and_names(monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(record(Asset("orders"), [1]))
    with connect(URL) as store:
        for name in ("order lines", "clicks", "ordinary", "ord$(reboot)", "ord`id`", "ord;id"):
            store.register(Asset(name))
        store.asset_state[Asset("orders")].set_many({"watermark": 1, "water": 2, "job": 3})
    keep(TaskScope("etl", "run", "load"), "job_id", "other")
    assert set(offered(monkeypatch, "asyncstore asset")) == {"assets", "asset-store"}
    assert "--text" in offered(monkeypatch, "asyncstore asset-store get --t")
    assert offered(monkeypatch, "asyncstore assets show ord") == ["orders", "ordinary"]
    assert offered(monkeypatch, "asyncstore asset-store get orders wat") == ["water", "watermark"]
    assert offered(monkeypatch, "asyncstore asset-store delete orders job wat") == ["water", "watermark"]
    assert offered(monkeypatch, "asyncstore task-store get etl run load j") == ["job_id"]
    assert offered(monkeypatch, "asyncstore events tail ord") == ["orders", "ordinary"]
    assert offered(monkeypatch, "asyncstore triggers show orders s") == ["scan"]


def test_what_goes_wrong_is_silent_and_makes_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in (
        "asyncstore assets show o",
        "asyncstore asset-store get nowhere k",
        "asyncstore task-store get d r t k",
    ):
        assert offered(monkeypatch, line) == []
    assert list(folder.iterdir()) == []
    assert offered(monkeypatch, "asyncstore --database nonsense assets show o") == []
    monkeypatch.setenv("ASYNCSTORE__DATABASE__NOPE", "1")
    assert offered(monkeypatch, "asyncstore assets show o") == []


def test_a_database_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    call("db", "upgrade")

    async def hang(self: MetastoreBackend) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(MetastoreBackend, "aopen", hang)
    monkeypatch.setattr("asyncstore.cli.completing._PATIENCE", 0.01)
    assert offered(monkeypatch, "asyncstore assets show o") == []
