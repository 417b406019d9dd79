"""Attempts of a job that run at once, or whose user made a mistake."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pickle
import threading
from typing import Any, assert_type

import pytest

from asyncstore import (
    JobFailedError,
    JobGoneError,
    JobStatus,
    ResumableJob,
    Store,
    ValueTooLargeError,
    connect,
)
from tests.jobs.fake import TASK, Job, Runner, attempt

pytestmark = pytest.mark.anyio


async def test_a_job_that_failed_before_its_id_was_stored_is_followed_by_another(store: Store) -> None:
    runner = Runner()

    async def die() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await attempt(store, Job(runner, hold=die))
    runner.asked[0], runner.ends = 1, JobStatus.FAILED

    async def recover() -> None:
        if len(runner.tokens) == 2:
            runner.ends = JobStatus.SUCCEEDED

    assert await attempt(store, Job(runner, hold=recover)) == "result of job-1"


# Two attempts at once: the one before was taken for dead and is not.


async def test_attempts_at_once_share_one_job(store: Store) -> None:
    for _ in range(20):
        await store.task_state(TASK).aclear()
        runner = Runner()
        results = await asyncio.gather(*(attempt(store, Job(runner)) for _ in range(5)))
        assert results == ["result of job-0"] * 5
        assert len(runner.tokens) == 1


@pytest.mark.parametrize("url", ["file", "postgresql"], indirect=True)
def test_attempts_at_once_in_threads_share_one_job(url: str) -> None:
    runner, barrier, results = Runner(), threading.Barrier(4), list[str]()

    def work() -> None:
        with connect(url) as store, store.task_context(TASK) as context:
            barrier.wait(20)
            results.append(Job(runner).run(context))

    with connect(url):
        pass
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["result of job-0"] * 4
    assert len(set(runner.tokens)) == len(runner.tokens) == 1


async def test_a_submission_that_was_overtaken_follows_the_other(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    runner = Runner(honours_tokens=False)

    async def overtake() -> None:
        assert await attempt(store, Job(runner)) == "result of job-1"

    assert await attempt(store, Job(runner, hold=overtake)) == "result of job-1"
    assert len(runner.tokens) == 2  # what a runner without tokens makes of it, and a person can find out
    assert "'job-0' was submitted, and is left to itself" in caplog.text


async def test_a_job_that_another_attempt_saw_fail_fails_the_one_that_began_it(store: Store) -> None:
    runner = Runner()

    async def overtake() -> None:
        if len(runner.tokens) == 1:
            runner.ends = JobStatus.FAILED
            with pytest.raises(JobFailedError):
                await attempt(store, Job(runner))
            runner.ends = JobStatus.SUCCEEDED

    with pytest.raises(JobFailedError, match="'job-0' failed"):
        await attempt(store, Job(runner, hold=overtake))
    assert len(runner.tokens) == 1


async def test_a_job_that_is_forgotten_while_it_is_submitted_is_submitted_anew(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    runner = Runner()
    once = iter([True])

    async def forget() -> None:
        if next(once, False):
            await Job(runner).aforget(store.task_state(TASK))

    assert await attempt(store, Job(runner, hold=forget)) == "result of job-1"
    assert "'job-0' was submitted, and is left to itself: somebody else wrote None" in caplog.text


async def test_a_job_that_is_forgotten_while_it_runs_is_waited_for(store: Store) -> None:
    runner = Runner()

    class Forgetful(Job):
        async def result(self, job_id: str) -> str:
            await self.aforget(store.task_state(TASK))
            return await super().result(job_id)

    assert await attempt(store, Forgetful(runner)) == "result of job-0"
    assert await Job(runner).aget_record(store.task_state(TASK)) is None
    assert await attempt(store, Job(runner)) == "result of job-1"


# What is said of it.


async def test_the_path_that_was_taken_is_logged(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "asyncstore")
    runner = Runner()

    class Dying(Job):
        async def poll(self, job_id: str) -> JobStatus:
            raise ZeroDivisionError

    async def told(job: Job) -> list[str]:
        caplog.clear()
        with contextlib.suppress(ZeroDivisionError, JobFailedError):
            await attempt(store, job)
        return [record.getMessage().removeprefix("job 'job' of task dag/run/task/-1: ") for record in caplog.records]

    async def die() -> None:
        raise ZeroDivisionError

    assert await told(Job(runner, hold=die)) == []
    assert await told(Dying(runner)) == [
        "may have been submitted before; submitted again with the same token",
        "submitted as job 'job-0'",
        "taken up: job 'job-0' is running",
    ]
    assert await told(Job(runner)) == ["taken up: job 'job-0' is succeeded", "job 'job-0' succeeded"]
    assert await told(Job(runner)) == ["job 'job-0' succeeded before; its result is returned"]
    await Job(runner).aforget(store.task_state(TASK))
    runner.ends = JobStatus.FAILED
    assert await told(Job(runner)) == ["submitted as job 'job-1'"]
    assert await told(Dying(runner)) == ["job 'job-1' failed; another is submitted", "submitted as job 'job-2'"]


async def test_errors_can_be_sent_to_another_process() -> None:
    for kind in (JobFailedError, JobGoneError):
        error = pickle.loads(pickle.dumps(kind("it failed", {"id": 1})))
        assert (type(error), str(error), error.job_id) == (kind, "it failed", {"id": 1})


# Mistakes.


async def test_an_id_that_cannot_be_stored_is_told_of(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    class Wrong(Job):
        given: object = None

        async def submit(self, token: str) -> Any:
            self.runner.submit(token)
            return self.given

    job = Wrong(Runner())
    with pytest.raises(TypeError, match=r"Wrong.submit returned None; it returns the id of the job"):
        await attempt(store, job)
    job.given = {1, 2}
    with pytest.raises(TypeError, match=r"store sorted\(value\) instead"):
        await attempt(store, job)
    job.given = "x" * 70_000
    with pytest.raises(ValueTooLargeError):
        await attempt(store, job)
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 3
    assert "was submitted, but its id could not be stored" in caplog.text
    job.given = ("tuple", {"of": [1, 2.5, True]})
    ids: list[Any] = []

    class Right(Wrong):
        async def status(self, job_id: Any) -> JobStatus:
            ids.append(job_id)
            return JobStatus.SUCCEEDED

        async def result(self, job_id: Any) -> str:
            return "done"

    right = Right(job.runner)
    right.given = job.given
    assert await attempt(store, right) == "done"
    assert ids == [["tuple", {"of": [1, 2.5, True]}]]
    assert len(job.runner.tokens) == 1


async def test_what_is_no_status_is_refused(store: Store) -> None:
    class Wrong(Job):
        async def status(self, job_id: str) -> Any:
            return "RUNNIN"

    for _ in range(2):  # by poll, and by an attempt that takes it up
        with pytest.raises(TypeError, match=r"Wrong.status returned 'RUNNIN'; it returns one of JobStatus.RUNNING, "):
            await attempt(store, Wrong(Runner()))

    class Text(Job):
        async def status(self, job_id: str) -> Any:
            return "succeeded"

    assert await attempt(store, Text(Runner())) == "result of job-0"


async def test_a_method_that_is_not_async_is_refused(store: Store) -> None:
    class Wrong(Job):
        def submit(self, token: str) -> Any:
            return "job-0"

    with pytest.raises(TypeError, match=r"Wrong.submit is no coroutine function; write `async def`"):
        await attempt(store, Wrong(Runner()))
    await store.task_state(TASK).aclear()
    with pytest.raises(TypeError, match=r"Wrong.submit is no coroutine function; write `async def`"):
        await asyncio.to_thread(Wrong(Runner()).run, store.task_state(TASK))


async def test_the_result_has_the_type_of_the_job(store: Store) -> None:
    async with store.task_context(TASK) as context:
        assert_type(await Job(Runner()).arun(context), str)
    assert_type(await asyncio.to_thread(Job(Runner()).run, store.task_state(TASK)), str)


async def test_two_jobs_of_one_name_in_one_attempt_are_refused(store: Store) -> None:
    runner = Runner()
    async with store.task_context(TASK) as context:
        first, second = Job(runner), Job(runner)
        results = await asyncio.gather(first.arun(context), second.arun(context), return_exceptions=True)
        assert results[0] == "result of job-0"
        assert isinstance(results[1], ValueError)
        with pytest.raises(ValueError, match=r"another job of this attempt is named 'job'.*Job\(name=...\)"):
            await second.arun(context)
        assert await first.arun(context) == "result of job-0"
        assert await Job(runner, name="second").arun(context) == "result of job-1"
        await second.aforget(context)
        assert await second.arun(context) == "result of job-2"
    async with context:
        assert await first.arun(context) == "result of job-2"


async def test_another_job_of_the_name_may_follow_one_that_failed(store: Store) -> None:
    runner = Runner()
    runner.ends = JobStatus.FAILED
    async with store.task_context(TASK) as context:
        with pytest.raises(JobFailedError):
            await Job(runner).arun(context)
        runner.ends = JobStatus.SUCCEEDED
        assert await Job(runner).arun(context) == "result of job-1"


async def test_what_is_no_context_is_refused(store: Store) -> None:
    with pytest.raises(TypeError, match="a job runs in a TaskContext, or on the state of a task"):
        await Job(Runner()).arun(store)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="key must be 1 to 512 bytes"):
        await Job(Runner(), name="x" * 499).arun(store.task_state(TASK))
    assert await Job(Runner(), name="x" * 498).arun(store.task_state(TASK)) == "result of job-0"
    with pytest.raises(TypeError, match="abstract"):
        ResumableJob()  # type: ignore[abstract]
    assert repr(Job(Runner(), name="load")) == "<Job 'load'>"
