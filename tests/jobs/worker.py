"""A worker that runs a job of the external runner and kills itself with SIGKILL at the step it is told.

A step is each call of the store and of the runner, before it is made and when it is made but not yet answered.

usage: worker.py URL FOLDER TOKENS MODE STEP
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asyncstore import JobFailedError, JobStatus, ResumableJob, TaskContext, TaskScope, TaskStoreAccessor, connect
from tests.jobs.external import External

TASK = TaskScope("dag", "run", "submit")
FAILED = 3


class Steps:
    """Count steps, and die at one of them."""

    def __init__(self, last: int) -> None:
        self.left = last

    def step(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, function: Callable[..., Any], *args: Any) -> Any:
        self.step()
        answer = function(*args)
        self.step()
        return answer

    def patch(self, kind: type[Any], name: str) -> None:
        operation = getattr(kind, name)

        async def stepping(*args: Any, **kwargs: Any) -> Any:
            self.step()
            answer = await operation(*args, **kwargs)
            self.step()
            return answer

        setattr(kind, name, stepping)


class Rows(ResumableJob[str]):
    poll_interval = 0.01
    poll_interval_max = 0.02

    def __init__(self, steps: Steps, runner: External, *, honour: bool) -> None:
        self.steps = steps
        self.runner = runner
        self.honour = honour
        self.asked = 0

    async def submit(self, token: str) -> int:
        def send() -> int:
            return self.runner.submit(token, honour=self.honour)

        answer: int = self.steps.around(send)
        return answer

    async def status(self, job_id: int) -> JobStatus:
        # The job is seen running twice, so that there is a wait to be killed in; from then on how often it is asked
        # is up to the runner, and is no step.
        self.asked += 1
        if self.asked < 3:
            state = self.steps.around(self.runner.state, job_id)
        else:
            self.runner.open_gate()
            state = self.runner.state(job_id)
        return JobStatus(state) if state in {"succeeded", "failed"} else JobStatus.RUNNING

    async def result(self, job_id: int) -> str:
        answer: str = self.steps.around(self.runner.output, job_id)
        return answer


async def attempt(url: str, job: Rows) -> str:
    async with connect(url) as store, store.task_context(TASK) as context:
        return await job.arun(context)


def attempt_sync(url: str, job: Rows) -> str:
    with connect(url) as store, store.task_context(TASK) as context:
        return job.run(context)


def main(url: str, folder: str, tokens: str, mode: str, last: str) -> int:
    steps = Steps(int(last))
    for kind, names in ((TaskStoreAccessor, ("aget_entry", "aset")), (TaskContext, ("__aenter__", "__aexit__"))):
        for name in names:
            steps.patch(kind, name)
    job = Rows(steps, External(Path(folder)), honour=tokens == "honoured")
    try:
        print(attempt_sync(url, job) if mode == "sync" else asyncio.run(attempt(url, job)))
    except JobFailedError:
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
