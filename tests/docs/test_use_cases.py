"""The use cases of docs/, killed with SIGKILL at every line and every commit, and resumed."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path

import pytest

from asyncstore import MetastoreBackend
from tests.crash.forking import ROOT, Forks, forking
from tests.docs.test_code_blocks import BLOCKS
from tests.postgres.databases import Databases

pytestmark = pytest.mark.crash

DATABASE = 'URL = "sqlite+aiosqlite:///app.db"'


@pytest.fixture(scope="module")
def forks() -> Generator[Forks]:
    with forking("tests.docs.dying", "asyncstore.backends.metastore", "asyncpg", "aiosqlite") as forks:
        yield forks


@pytest.fixture
def postgres_url(postgres: Databases) -> Generator[str]:
    name = postgres.create_database()
    asyncio.run(MetastoreBackend(postgres.url(name)).aupgrade())
    try:
        yield postgres.url(name)
        postgres.expect_no_connections(name)
    finally:
        postgres.drop_database(name)


def block(page: str, part: str) -> str:
    """Give the one block of Python on a page that holds a text."""
    found = [code for where, (_, code) in BLOCKS.items() if where.startswith(page) and part in code]
    (code,) = found
    return code


def pages(part: str) -> str:
    """Give an example of checkpoints, with three pages for the five."""
    code = block("docs/how-to/checkpoint-a-task.md", part)
    assert "PAGES = 5" in code
    return code.replace("PAGES = 5", "PAGES = 3")


def begin(folder: Path, code: str) -> Path:
    folder.mkdir()
    script = folder / "block.py"
    script.write_text(code)
    return script


def killed(forks: Forks, script: Path, step: int, *arguments: str) -> bool:
    """Run a script that dies at a step; tell whether it did, or ended before."""
    code, _ = forks.run("tests.docs.dying", script, step, *arguments, cwd=script.parent)
    assert code in {0, -signal.SIGKILL}
    return code != 0


def at_every_step(forks: Forks, tmp_path: Path, code: str, judge: Callable[[Path, str], None]) -> int:
    """Kill a script at each step of its own, each in a folder of its own, and resume it; give how many there were."""
    step = 0
    while True:
        step += 1
        script = begin(tmp_path / f"{step}", code)
        was_killed = killed(forks, script, step)
        code_then, printed = forks.run("tests.docs.dying", script, 0, cwd=script.parent)
        assert code_then == 0
        judge(script.parent, printed)
        if not was_killed:
            return step - 1


def test_a_job_is_resumed(forks: Forks, tmp_path: Path) -> None:
    def judge(folder: Path, printed: str) -> None:
        assert printed == "42 rows"
        assert len(list(folder.glob("job-*"))) == 1

    code = block("docs/how-to/resume-a-job.md", "class CountRows").replace("sleep 0.3", "sleep 0.02")
    assert at_every_step(forks, tmp_path, code, judge) > 12


def test_a_task_goes_on_from_its_checkpoint(forks: Forks, tmp_path: Path) -> None:
    repeated: list[int] = []

    def judge(folder: Path, printed: str) -> None:
        loaded = Counter(int(line) for line in (folder / "loaded.txt").read_text().split())
        assert sorted(loaded) == [1, 2, 3]
        assert loaded.total() <= 4  # the one that was in hand may be there twice, as the page says
        repeated.append(loaded.total() - 3)

    code = pages("loaded.txt")
    assert at_every_step(forks, tmp_path, code, judge) > 15
    assert set(repeated) == {0, 1}


def test_work_and_checkpoint_in_one_commit_leave_each_page_once(forks: Forks, tmp_path: Path) -> None:
    def judge(folder: Path, printed: str) -> None:
        with closing(sqlite3.connect(folder / "app.db")) as database:
            assert sorted(database.execute("SELECT page FROM loaded")) == [(1,), (2,), (3,)]

    code = pages("CREATE TABLE")
    assert at_every_step(forks, tmp_path, code, judge) > 15


def test_work_and_checkpoint_in_one_commit_on_postgresql(
    forks: Forks, tmp_path: Path, postgres: Databases, postgres_url: str
) -> None:
    # One story, in which each attempt dies a step later than the one before.
    code = pages("CREATE TABLE")
    assert DATABASE in code
    script = begin(tmp_path / "script", code.replace(DATABASE, f"URL = {postgres_url!r}"))
    step = 1
    while killed(forks, script, step):
        step += 1
    assert step > 10
    rows = postgres.fetch("SELECT page FROM loaded ORDER BY page", database=postgres_url.rpartition("/")[2])
    assert [row["page"] for row in rows] == [1, 2, 3]


def test_progress_is_seen_through_every_death(forks: Forks, tmp_path: Path) -> None:
    script = begin(
        tmp_path / "script", block("docs/how-to/show-progress.md", "STEPS").replace("sleep(0.02)", "sleep(0)")
    )
    command = [sys.executable, "-W", "error", str(script), "show"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=script.parent, env=environ, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        step = 1
        while killed(forks, script, step, "work"):
            step += 1
        lines = watching.stdout.read().splitlines()
        assert watching.wait(30) == 0
    assert step > 8
    seen = [int(line.removesuffix(" of 10")) for line in lines]
    assert seen == sorted(seen)
    assert seen[-1] == 10
