"""A runner in this process, and jobs on it whose every step is an `await` that suspends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from asyncstore import JobStatus, ResumableJob, Store, TaskScope

TASK = TaskScope("dag", "run", "task")
KEY = "resumable-job/job"


class Runner:
    """Number the jobs; each runs until it is asked for the second time.

    :param honours_tokens: a second submission with a token is the first one again.
    """

    def __init__(self, *, honours_tokens: bool = True) -> None:
        self.honours_tokens = honours_tokens
        self.tokens: list[str] = []
        self.asked: list[int] = []
        self.ends = JobStatus.SUCCEEDED

    def submit(self, token: str) -> int:
        if not self.honours_tokens or token not in self.tokens:
            self.tokens.append(token)
            self.asked.append(0)
            return len(self.tokens) - 1
        return self.tokens.index(token)

    def status(self, number: int) -> JobStatus:
        self.asked[number] += 1
        return JobStatus.RUNNING if self.asked[number] < 2 else self.ends


class Job(ResumableJob[str]):
    poll_interval = 0.0

    def __init__(self, runner: Runner, *, name: str | None = None, hold: Callable[[], Any] | None = None) -> None:
        super().__init__(name=name)
        self.runner = runner
        self.hold = hold

    async def submit(self, token: str) -> str:
        await asyncio.sleep(0)
        number = self.runner.submit(token)
        await asyncio.sleep(0)
        if self.hold is not None:
            await self.hold()
        return f"job-{number}"

    async def status(self, job_id: str) -> JobStatus:
        await asyncio.sleep(0)
        return self.runner.status(int(job_id.removeprefix("job-")))

    async def result(self, job_id: str) -> str:
        await asyncio.sleep(0)
        return f"result of {job_id}"


async def attempt(store: Store, job: ResumableJob[Any]) -> Any:
    async with store.task_context(TASK) as context:
        return await job.arun(context)
