"""A job of an external runner in a function that handles events: each attempt at the event takes it up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from asyncstore import DeliveredEvent, JobStatus, StateStoreSettings, Store, TaskContext, TaskScope, connect
from tests.consumers.support import ORDERS, record
from tests.jobs.fake import KEY, Job, Runner
from tests.triggers.handlers.test_handlers import SETTINGS, running, settled
from triggers import on_event

pytestmark = pytest.mark.anyio

CLEARING = SETTINGS.model_copy(
    update={
        "state_store": StateStoreSettings(clear_on_success=True),
        "triggerer": SETTINGS.triggerer.model_copy(update={"drain_timeout": 0.05}),
    }
)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncGenerator[Store]:
    async with connect(f"sqlite+aiosqlite:///{tmp_path}/state.db", settings=CLEARING) as store:
        yield store


def states(store: Store, events: list[int]) -> list[TaskScope]:
    return [TaskScope("submit", f"event-{event}", "on_event") for event in events]


async def test_a_handler_that_is_retried_takes_up_its_job(store: Store) -> None:
    await record(store, 2)
    runner, results, events = Runner(), list[str](), list[int]()

    @on_event(ORDERS, name="submit", concurrency=2)
    async def submit(event: DeliveredEvent, context: TaskContext) -> None:
        events.append(event.id)
        result = await Job(runner).arun(context)
        if event.attempt < 3:
            raise ZeroDivisionError
        results.append(result)

    async with running(store, submit):
        await settled(store)
    assert sorted(results) == ["result of job-0", "result of job-1"]
    assert len(runner.tokens) == 2
    for scope in states(store, events):  # cleared once the event was done, and not before
        assert await store.task_state(scope).aget(KEY) is None


async def test_a_handler_that_is_drained_leaves_its_job_to_the_next_one(store: Store) -> None:
    await record(store, 1)
    runner, results, polling = Runner(), list[str](), asyncio.Event()

    class Long(Job):
        async def poll(self, job_id: str) -> JobStatus:
            polling.set()
            await asyncio.Event().wait()
            raise AssertionError("nobody ends the wait")

    jobs: list[Job] = [Job(runner), Long(runner)]

    @on_event(ORDERS, name="submit")
    async def submit(event: DeliveredEvent, context: TaskContext) -> None:
        results.append(await jobs.pop().arun(context))

    async with running(store, submit), asyncio.timeout(20):
        await polling.wait()
    assert results == []
    async with running(store, submit):
        await settled(store)
    assert results == ["result of job-0"]
    assert len(runner.tokens) == 1
