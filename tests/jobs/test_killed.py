"""A worker is killed with SIGKILL at every step of a job on a runner that goes on; there is one job, and its result."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from asyncstore import MetastoreBackend, connect
from tests.crash.forking import ROOT, Forks, forking
from tests.jobs.external import External, serving
from tests.jobs.worker import FAILED, TASK
from tests.postgres.databases import Databases

pytestmark = pytest.mark.crash

NEVER = 0


class World:
    """A database, a runner, and workers that come and go."""

    def __init__(self, url: str, runner: External, forks: Forks) -> None:
        self.url = url
        self.runner = runner
        self._forks = forks

    def worker(self, step: int, *, tokens: str = "honoured", mode: str = "async") -> tuple[int, str]:
        """Run a worker until it ends, or is killed at a step; gives its return code and what it printed."""
        folder = self.runner.folder
        return self._forks.run("tests.jobs.worker", self.url, folder, tokens, mode, step, cwd=folder)

    def begin(self, step: int, mode: str) -> subprocess.Popen[str]:
        """Start a worker beside others."""
        arguments = self.url, str(self.runner.folder), "honoured", mode, str(step)
        command = [sys.executable, "-m", "tests.jobs.worker", *arguments]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    def clear(self) -> None:
        """Begin a new story."""
        self.runner.empty()
        with connect(self.url) as store:
            store.task_state(TASK).clear()


@pytest.fixture(scope="module")
def forks() -> Generator[Forks]:
    with forking("tests.jobs.worker", "asyncstore.backends.metastore", "asyncpg", "aiosqlite") as forks:
        yield forks


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path: Path, forks: Forks) -> Generator[World]:
    (tmp_path / "runner").mkdir()
    with serving(tmp_path / "runner") as runner:
        if request.param == "sqlite":
            url = f"sqlite+aiosqlite:///{tmp_path}/state.db"
            with connect(url):
                pass
            yield World(url, runner, forks)
            return
        postgres: Databases = request.getfixturevalue("postgres")
        name = postgres.create_database()
        asyncio.run(MetastoreBackend(postgres.url(name)).aupgrade())
        try:
            yield World(postgres.url(name), runner, forks)
            postgres.expect_no_connections(name)
        finally:
            postgres.drop_database(name)


def test_killed_at_every_step_it_has_one_job_and_its_result(world: World) -> None:
    step = 0
    while True:
        step += 1
        code, printed = world.worker(step)
        if code == 0:
            assert printed == "rows of 1"
            break
        assert code == -signal.SIGKILL
        assert world.worker(NEVER) == (0, "rows of 1"), step
        assert world.runner.count() == 1, step
        world.clear()
    assert step > 20


def test_killed_again_and_again_a_step_later_it_has_one_job(world: World) -> None:
    step = 0
    while True:
        step += 1
        code, printed = world.worker(step, mode="sync")
        assert world.runner.count() <= 1
        if code == 0:
            assert printed == "rows of 1"
            break
        assert code == -signal.SIGKILL
    assert step > 10
    assert world.worker(NEVER) == (0, "rows of 1")
    assert world.runner.count() == 1


def test_workers_at_once_some_of_them_killed_have_one_job(world: World) -> None:
    for steps in ((NEVER, NEVER, NEVER), (6, 8, NEVER)):
        workers = [world.begin(step, mode) for step, mode in zip(steps, ("async", "sync", "async"), strict=True)]
        outcomes = [(worker.communicate()[0].strip(), worker.returncode) for worker in workers]
        assert set(outcomes) <= {("rows of 1", 0), ("", -signal.SIGKILL)}
        assert world.worker(NEVER) == (0, "rows of 1")
        assert world.runner.count() == 1
        world.clear()


def test_killed_around_a_job_that_fails_it_has_one_more(world: World) -> None:
    world.runner.fail(1)
    codes: list[int] = []
    for step in range(1, 100):
        codes.append(world.worker(step)[0])
        assert world.runner.count() <= 2
        if codes[-1] == 0:
            break
    assert set(codes) <= {-signal.SIGKILL, FAILED, 0}
    assert codes.count(FAILED) <= 1
    assert world.worker(NEVER) == (0, "rows of 2")
    assert world.runner.count() == 2


def test_without_tokens_only_a_death_before_the_id_is_stored_leaves_a_job_behind(world: World) -> None:
    # What the judgement above sees where it is not so: the promise for a runner that takes every submission as new.
    left_behind: list[int] = []
    for step in range(1, 100):
        code, _ = world.worker(step, tokens="ignored")
        if code == 0:
            break
        with connect(world.url) as store:
            stored = store.task_state(TASK).get("resumable-job/job", {}).get("job_id")
        assert world.worker(NEVER, tokens="ignored")[0] == 0
        if world.runner.count() == 2:
            left_behind.append(step)
            assert stored is None
        world.clear()
    assert len(left_behind) == 2  # submitted and not answered, answered and not yet stored
