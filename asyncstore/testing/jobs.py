"""Contract of jobs that outlive the attempt which submitted them."""

from __future__ import annotations

from typing import Any

import pytest

from ..abc import Capability
from ..errors import JobFailedError, JobGoneError, StoreError, UnsupportedOperationError
from ..jobs import JobStatus, ResumableJob
from ..retention import NEVER_EXPIRE
from ..scopes import TaskScope
from .harness import TASK, ConformanceBase, Harness

__all__ = ["JobConformance"]

KEY = "resumable-job/count"


class Runner:
    """Be a runner that takes tokens, in this process: jobs are numbered, and run until they are told otherwise."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.states: list[JobStatus] = []
        self.calls: list[str] = []

    @property
    def began(self) -> int:
        """Return how many jobs were started."""
        return len(self.tokens)


class Count(ResumableJob[dict[str, Any]]):
    """Count on a runner.

    :param runner: the runner.
    :param ends: how a job ends that is waited for.
    :param dies_in: the method that raises after its work is done, as a process does that is killed there.
    """

    poll_interval = 0.0
    name = "count"

    def __init__(self, runner: Runner, ends: JobStatus = JobStatus.SUCCEEDED, dies_in: str = "") -> None:
        self.runner = runner
        self.ends = ends
        self.dies_in = dies_in

    def _call(self, name: str) -> None:
        self.runner.calls.append(name)
        if self.dies_in == name:
            raise ZeroDivisionError(name)

    async def submit(self, token: str) -> dict[str, int]:
        """Start a job, or find the one with this token."""
        if token not in self.runner.tokens:
            self.runner.tokens.append(token)
            self.runner.states.append(JobStatus.RUNNING)
        self._call("submit")
        return {"number": self.runner.tokens.index(token)}

    async def status(self, job_id: dict[str, int]) -> JobStatus:
        """Tell how a job is, and have it end."""
        self._call("status")
        found = self.runner.states[job_id["number"]]
        if found is JobStatus.RUNNING:
            self.runner.states[job_id["number"]] = self.ends
        return found

    async def result(self, job_id: dict[str, int]) -> dict[str, Any]:
        """Give the result."""
        self._call("result")
        return {"of": job_id["number"]}


class JobConformance(ConformanceBase):
    """Hold a backend to what a `ResumableJob` needs of it."""

    async def _attempt(self, harness: Harness, job: Count, scope: TaskScope = TASK) -> dict[str, Any]:
        # One attempt of a task, as a worker makes it.
        context = harness.store.task_context(scope)
        await harness.call(context.__aenter__)
        return await harness.call(job.arun, context)

    async def test_a_job_is_submitted_waited_for_and_returned(self, harness: Harness) -> None:
        """Store the token before the job is submitted, and its id before it is waited for."""
        call, runner, state = harness.call, Runner(), harness.task()
        seen: list[Any] = []

        class Watching(Count):
            async def submit(self, token: str) -> dict[str, int]:
                seen.append(await state.aget(KEY))
                return await super().submit(token)

            async def poll(self, job_id: Any) -> JobStatus:
                seen.append(await state.aget(KEY))
                return await super().poll(job_id)

        job = Watching(runner)
        assert await call(job.aget_record, state) is None
        assert await self._attempt(harness, job) == {"of": 0}
        (token,) = runner.tokens
        submitted = {"token": token, "submission": 1}
        assert seen == [submitted, {**submitted, "job_id": {"number": 0}}]
        assert await call(state.aget, KEY) == {**seen[-1], "outcome": "succeeded"}
        assert runner.calls == ["submit", "status", "status", "result"]
        record = await call(job.aget_record, state)
        assert record is not None
        assert (record.token, record.submission, record.job_id) == (token, 1, {"number": 0})
        assert (record.outcome, record.result, record.result_kept) == (JobStatus.SUCCEEDED, None, False)

    async def test_the_record_stays_while_the_job_runs(self, harness: Harness) -> None:
        """Keep it for good until the job is over, then for the configured time; written by the task."""
        if not harness.has(Capability.ENTRIES | Capability.COMMIT):
            return
        state, runner = harness.task(), Runner()
        with pytest.raises(ZeroDivisionError):
            await self._attempt(harness, Count(runner, dies_in="status"))
        entry = await harness.call(state.aget_entry, KEY)
        assert entry is not None
        assert (entry.expires_at, entry.updated_by) == (None, f"task:{TASK.ti_id}")
        await self._attempt(harness, Count(runner))
        entry = await harness.call(state.aget_entry, KEY)
        assert entry is not None
        assert entry.expires_at is not None

    async def test_a_retry_takes_up_a_job_that_runs(self, harness: Harness) -> None:
        """Ask how it is, wait for it, and start no second."""
        for dies_in in ("submit", "status", "result"):
            runner = Runner()
            scope = TaskScope("dag", "run", dies_in)
            with pytest.raises(ZeroDivisionError):
                await self._attempt(harness, Count(runner, dies_in=dies_in), scope)
            assert await self._attempt(harness, Count(runner), scope) == {"of": 0}
            assert runner.began == 1

    async def test_a_retry_returns_the_result_of_a_job_that_succeeded(self, harness: Harness) -> None:
        """Fetch it once more, or give what was kept; a job of a finished task is not submitted again."""
        for keep in (False, True):
            runner = Runner()
            scope = TaskScope("dag", "run", f"keep {keep}")
            job = Count(runner)
            job.keep_result = keep
            assert await self._attempt(harness, job, scope) == {"of": 0}
            runner.calls.clear()
            assert await self._attempt(harness, job, scope) == {"of": 0}
            assert runner.calls == ([] if keep else ["result"])
            record = await harness.call(job.aget_record, harness.task(scope))
            assert record is not None
            assert (record.result_kept, record.result) == (keep, {"of": 0} if keep else None)

    async def test_a_retry_submits_anew_after_a_job_that_failed(self, harness: Harness) -> None:
        """Submit another with a new token, whether or not an attempt saw the first one fail."""
        for seen in (True, False):
            runner = Runner()
            scope = TaskScope("dag", "run", f"seen {seen}")
            if seen:
                with pytest.raises(JobFailedError, match="failed") as failed:
                    await self._attempt(harness, Count(runner, JobStatus.FAILED), scope)
                assert failed.value.job_id == {"number": 0}
            else:
                with pytest.raises(ZeroDivisionError):
                    await self._attempt(harness, Count(runner, dies_in="status"), scope)
                runner.states[0] = JobStatus.FAILED
            assert await self._attempt(harness, Count(runner), scope) == {"of": 1}
            assert len(set(runner.tokens)) == 2
            record = await harness.call(Count(runner).aget_record, harness.task(scope))
            assert record is not None
            assert record.submission == 2

    async def test_a_job_that_is_gone_is_not_replaced_unasked(self, harness: Harness) -> None:
        """Raise at every attempt, until somebody says to forget it."""
        runner = Runner()
        for _ in range(2):
            with pytest.raises(JobGoneError, match="aforget") as gone:
                await self._attempt(harness, Count(runner, JobStatus.GONE))
            assert gone.value.job_id == {"number": 0}
        assert runner.began == 1
        await harness.call(Count(runner).aforget, harness.task())
        assert await self._attempt(harness, Count(runner)) == {"of": 1}

    async def test_jobs_of_one_task_have_names(self, harness: Harness) -> None:
        """Keep jobs of other names, and of other map indices, apart."""
        runner = Runner()
        first, second = Count(runner), Count(runner)
        second.name = "second / 二"
        mapped = [TaskScope("dag", "run", "task", index) for index in range(2)]
        numbers = [(await self._attempt(harness, job, scope))["of"] for scope in mapped for job in (first, second)]
        assert numbers == [0, 1, 2, 3]
        await harness.call(harness.task(mapped[0]).aclear)
        numbers = [(await self._attempt(harness, job, scope))["of"] for scope in mapped for job in (first, second)]
        assert numbers == [4, 5, 2, 3]
        await harness.call(harness.task(mapped[0]).aclear, all_map_indices=True)
        numbers = [(await self._attempt(harness, job, scope))["of"] for scope in mapped for job in (first, second)]
        assert numbers == [6, 7, 8, 9]

    async def test_a_cleared_task_begins_anew(self, harness: Harness) -> None:
        """Clear the record with the task's state when the task succeeds, and only then."""
        runner = Runner()
        async with harness.open_store(clear_on_success=True) as store:
            for attempt, (dies_in, number) in enumerate((("status", 0), ("", 0), ("", 1))):
                job = Count(runner, dies_in=dies_in)
                context = store.task_context(TASK)
                await harness.call(context.__aenter__)
                if dies_in:
                    with pytest.raises(ZeroDivisionError) as died:
                        await harness.call(job.arun, context)
                    await harness.call(context.__aexit__, died.type, died.value, died.tb)
                else:
                    assert await harness.call(job.arun, context) == {"of": number}, attempt
                    await harness.call(context.__aexit__, None, None, None)
        assert runner.began == 2

    async def test_a_job_can_be_stopped(self, harness: Harness) -> None:
        """Ask the runner, where there is something to stop and the subclass knows how."""
        call, runner, state = harness.call, Runner(), harness.task()

        class Stopping(Count):
            async def stop(self, job_id: dict[str, int]) -> None:
                self.runner.states[job_id["number"]] = JobStatus.FAILED

        job = Stopping(runner, dies_in="status")
        assert await call(job.acancel, state) is False
        with pytest.raises(ZeroDivisionError):
            await self._attempt(harness, job)
        with pytest.raises(UnsupportedOperationError, match=r"Count .*stop\(job_id\)"):
            await call(Count(runner).acancel, state)
        assert await call(job.acancel, state) is True
        assert await self._attempt(harness, Count(runner)) == {"of": 1}
        assert await call(job.acancel, state) is False

    async def test_what_is_no_record_is_refused(self, harness: Harness) -> None:
        """Overwrite nothing that somebody else keeps under the key."""
        for value in ("app_1234", {"token": 1}, {"token": "a", "submission": 1, "outcome": "lost"}, [1]):
            await harness.call(harness.task().aset, KEY, value, retention=NEVER_EXPIRE)
            runner = Runner()
            with pytest.raises(StoreError, match="no ResumableJob wrote"):
                await self._attempt(harness, Count(runner))
            assert runner.began == 0
            assert await harness.call(harness.task().aget, KEY) == value
