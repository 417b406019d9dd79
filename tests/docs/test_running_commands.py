"""Commands of the pages that run until they are stopped: started, used as the page says, and stopped by Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tests.docs.pages import DOCS, ROOT, blocks_of

ASSETS = """
import anyio
from asyncstore import Asset
from triggers import AssetWatcher, BaseEventTrigger, TriggerEvent


class Orders(BaseEventTrigger):
    async def run(self):
        at = await self.asset_state.aget("watermark", default=0)
        yield TriggerEvent(at + 1, checkpoint={"watermark": at + 1})
        await anyio.sleep_forever()


orders = Asset("orders", watchers=[AssetWatcher("new", Orders())])
"""
ENVIRON = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "PYTHONPATH": str(ROOT),
}


def commands(page: str) -> list[str]:
    return [block.text for block in blocks_of(DOCS / page) if block.language == "sh"]


@contextmanager
def running(command: str, folder: Path) -> Generator[subprocess.Popen[str]]:
    """Run a command as somebody at a terminal does, until it is stopped."""
    with subprocess.Popen(
        ["bash", "-euc", command],
        cwd=folder,
        env=ENVIRON,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(30) == 0
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def test_the_folder_is_watched_as_the_page_says(tmp_path: Path) -> None:
    (command,) = commands("how-to/watch-a-folder.md")
    below = tmp_path / "inbox/below"
    below.mkdir(parents=True)
    (below / "a.csv").write_text("1")
    (below / "a.txt").write_text("1")
    with running(command, tmp_path) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["payload"]["path"] == "below/a.csv"


def test_watchers_of_a_package_are_run_and_told_what_to_do(tmp_path: Path) -> None:
    start, tell = commands("how-to/run-several-machines.md")
    (tmp_path / "mypackage").mkdir()
    (tmp_path / "mypackage/__init__.py").touch()
    (tmp_path / "mypackage/assets.py").write_text(ASSETS)
    with running(start, tmp_path) as process:
        assert process.stderr is not None
        assert any("watchers run here: 1" in line for line in process.stderr)
        done = subprocess.run(
            ["bash", "-euc", tell], cwd=tmp_path, env=ENVIRON, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        assert "orders" in done.stdout
