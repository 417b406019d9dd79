"""What is kept of a job, until when, what that costs, and how a job is waited for."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from asyncstore import (
    JobStatus,
    MemoryBackend,
    OutcomeUnknownError,
    Settings,
    StateStoreSettings,
    Store,
    TaskStoreAccessor,
    ValueTooLargeError,
    connect,
)
from tests.jobs.fake import KEY, TASK, Job, Runner, attempt
from triggers.testing import run_virtual

pytestmark = pytest.mark.anyio

# What the store may answer.


@pytest.mark.parametrize("at", [1, 2, 3], ids=["token", "id", "outcome"])
@pytest.mark.parametrize("made", [True, False], ids=["made", "lost"])
async def test_a_write_whose_answer_is_lost_is_looked_after(store: Store, at: int, made: bool) -> None:
    runner, writes = Runner(), 0
    aset = TaskStoreAccessor.aset

    async def lose(self: TaskStoreAccessor, key: str, value: Any, **more: Any) -> None:
        nonlocal writes
        writes += 1
        if writes != at:
            await aset(self, key, value, **more)
            return
        if made:
            await aset(self, key, value, **more)
        raise OutcomeUnknownError("the connection was lost")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TaskStoreAccessor, "aset", lose)
        assert await attempt(store, Job(runner)) == "result of job-0"
    assert writes == (3 if made else 4)
    record = await Job(runner).aget_record(store.task_state(TASK))
    assert record is not None
    assert (record.job_id, record.outcome) == ("job-0", JobStatus.SUCCEEDED)
    assert len(runner.tokens) == 1


async def test_a_job_costs_three_writes(store: Store) -> None:
    calls: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("aset", "aget", "aget_entry", "adelete"):
            patch.setattr(TaskStoreAccessor, name, _counting(calls, name, getattr(TaskStoreAccessor, name)))
        await attempt(store, Job(Runner()))
        assert calls == ["aget_entry", *["aset", "aget_entry"] * 2, "aget_entry", "aset", "aget_entry"]
        calls.clear()
        await attempt(store, Job(Runner()))  # a result that is fetched again
        assert calls == ["aget_entry"]


def _counting(calls: list[str], name: str, operation: Any) -> Any:
    async def count(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        return await operation(*args, **kwargs)

    return count


# What is kept, and until when.


async def test_a_result_that_is_none_is_kept_too(store: Store) -> None:
    class Nothing(Job):
        keep_result = True

        async def result(self, job_id: str) -> Any:
            self.runner.ends = JobStatus.GONE
            return None

    runner = Runner()
    for _ in range(2):
        assert await attempt(store, Nothing(runner)) is None
    record = await Nothing(runner).aget_record(store.task_state(TASK))
    assert record is not None
    assert (record.result_kept, record.result) == (True, None)


async def test_a_result_that_is_kept_is_the_same_for_every_attempt(store: Store) -> None:
    class Pair(Job):
        keep_result = True

        async def result(self, job_id: str) -> Any:
            return 1, {"of": (2,)}

    runner = Runner()
    assert [await attempt(store, Pair(runner)) for _ in range(2)] == [[1, {"of": [2]}]] * 2


async def test_a_result_that_cannot_be_kept_fails_the_attempt_and_loses_nothing(store: Store) -> None:
    job = Job(Runner())
    job.keep_result = True
    for result in ({1}, "x" * 70_000):
        wrong = type("Wrong", (Job,), {"result": _giving(result), "keep_result": True})(job.runner)
        with pytest.raises((TypeError, ValueTooLargeError)):
            await attempt(store, wrong)
    assert await attempt(store, job) == "result of job-0"


def _giving(result: object) -> Any:
    async def give(self: Job, job_id: str) -> object:
        return result

    return give


async def test_the_record_of_a_finished_job_expires_where_that_is_configured() -> None:
    settings = Settings(state_store=StateStoreSettings(default_retention_days=0))
    async with connect("sqlite://", settings=settings) as store:
        await attempt(store, Job(Runner()))
        entry = await store.task_state(TASK).aget_entry(KEY)
        assert entry is not None
        assert entry.expires_at is None


# Waiting.


def test_pauses_grow_up_to_a_limit() -> None:
    async def main() -> list[float]:
        asked: list[float] = []

        class Slow(Job):
            poll_interval = 2.0
            poll_interval_max = 10.0

            async def status(self, job_id: str) -> JobStatus:
                asked.append(asyncio.get_running_loop().time())
                return JobStatus.RUNNING if len(asked) < 12 else JobStatus.SUCCEEDED

        begin = asyncio.get_running_loop().time()
        assert await Slow(Runner()).poll("job-0") is JobStatus.SUCCEEDED
        return [after - before for before, after in zip([begin, *asked], asked, strict=False)]

    pauses = run_virtual(main)  # virtual time
    longest = [2.0, 3.0, 4.5, 6.75, *[10.0] * 8]
    assert all(most / 2 <= pause <= most for pause, most in zip(pauses, longest, strict=True))
    assert len({round(pause, 6) for pause in pauses[4:]}) > 4


async def test_a_poll_of_ones_own_is_called_until_the_job_is_over(store: Store) -> None:
    answers = iter([JobStatus.RUNNING, JobStatus.RUNNING, JobStatus.SUCCEEDED])

    class Long(Job):
        async def poll(self, job_id: str) -> JobStatus:
            return next(answers)

    assert await attempt(store, Long(Runner())) == "result of job-0"
    assert next(answers, None) is None


def test_a_poll_that_does_not_wait_is_called_in_intervals() -> None:
    asked: list[float] = []

    class Impatient(Job):
        poll_interval = 2.0

        async def poll(self, job_id: str) -> JobStatus:
            asked.append(asyncio.get_running_loop().time())
            await asyncio.sleep(0.5 if len(asked) == 2 else 0)
            return JobStatus.RUNNING if len(asked) < 4 else JobStatus.SUCCEEDED

    async def main() -> str:
        async with connect(backend=MemoryBackend()) as store:
            answer: str = await attempt(store, Impatient(Runner()))
            return answer

    assert run_virtual(main) == "result of job-0"  # virtual time
    assert [after - before for before, after in itertools.pairwise(asked)] == pytest.approx([2.0] * 3)
