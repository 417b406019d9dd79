"""Attempts of a job that are cancelled, at every await, twice, or with the loop that they run on."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

import anyio
import pytest

from asyncstore import Store, TaskStoreAccessor
from tests.jobs.fake import TASK, Job, Runner, attempt

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("native", [True, False], ids=["task", "scope"])
async def test_cancelled_at_every_await_it_leaves_the_job_to_the_next_attempt(store: Store, native: bool) -> None:
    cancelled = 0
    for at in range(1, 200):
        await store.task_state(TASK).aclear()
        runner = Runner()
        if await _cancel_at(at, attempt(store, Job(runner)), native=native):
            break
        cancelled += 1
        assert await attempt(store, Job(runner)) == "result of job-0"
        assert len(runner.tokens) == 1
    else:
        raise AssertionError("the attempt does not end")
    assert cancelled > 10


class Suspensions(Awaitable[None]):
    """Await a coroutine, and do something in its n-th suspension."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], at: int, act: Callable[[], object]) -> None:
        self.coroutine = coroutine
        self.left = at
        self.act = act

    def __await__(self) -> Generator[Any, Any, None]:
        steps = self.coroutine.__await__()
        send: Callable[[], Any] = functools.partial(next, steps)
        while True:
            try:
                waited_for = send()
            except StopIteration:
                return
            self.left -= 1
            if self.left == 0:
                self.act()
            try:
                answer = yield waited_for
            except BaseException as error:
                send = functools.partial(steps.throw, error)
            else:
                send = functools.partial(steps.send, answer)


async def _cancel_at(at: int, coroutine: Coroutine[Any, Any, Any], *, native: bool) -> bool:
    """Cancel a coroutine in its n-th suspension; tell whether it ended before."""
    scope, done = anyio.CancelScope(), False

    async def run() -> None:
        nonlocal done
        with scope:
            await Suspensions(coroutine, at, cancel)
            done = True

    def cancel() -> None:
        if native:
            asyncio.get_running_loop().call_soon(task.cancel)
        else:
            scope.cancel()

    task = asyncio.create_task(run())
    with anyio.fail_after(20):
        await asyncio.wait([task])
    assert task.cancelled() or task.exception() is None
    return done and not task.cancelled()


class Writing:
    """Hold back the commit of an id."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go = asyncio.Event()


@contextlib.contextmanager
def holding_back() -> Generator[Writing]:
    writing = Writing()
    aset = TaskStoreAccessor.aset

    async def slow(self: TaskStoreAccessor, key: str, value: Any, **more: Any) -> None:
        if "job_id" in value:
            writing.begun.set()
            await writing.go.wait()
        await aset(self, key, value, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TaskStoreAccessor, "aset", slow)
        yield writing


@pytest.mark.parametrize("times", [1, 3])
async def test_an_id_that_is_known_is_stored_however_often_it_is_cancelled(store: Store, times: int) -> None:
    runner = Runner(honours_tokens=False)
    with holding_back() as writing:
        task = asyncio.create_task(attempt(store, Job(runner)))
        await writing.begun.wait()
        for _ in range(times):
            task.cancel()
            for _ in range(3):
                await asyncio.sleep(0)
        assert not task.done()
        writing.go.set()
        await asyncio.wait([task])
        assert task.cancelled()
    assert await attempt(store, Job(runner)) == "result of job-0"
    assert len(runner.tokens) == 1


async def test_an_id_that_is_known_is_stored_though_every_task_of_the_loop_is_cancelled(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    runner = Runner(honours_tokens=False)
    before = asyncio.all_tasks()
    with holding_back() as writing:
        task = asyncio.create_task(attempt(store, Job(runner)))
        await writing.begun.wait()
        for each in asyncio.all_tasks() - before:  # as `asyncio.run` does it at its end
            each.cancel()
        writing.go.set()
        await asyncio.wait([task])
        assert task.cancelled()
    assert caplog.text == ""
    assert await attempt(store, Job(runner)) == "result of job-0"
    assert len(runner.tokens) == 1


async def test_an_id_that_cannot_be_stored_in_time_is_told_of(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncstore.jobs.calling._MORE_SECONDS", 0.05)
    with holding_back() as writing:
        task = asyncio.create_task(attempt(store, Job(Runner())))
        await writing.begun.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
    assert "store the id of job 'job-0': not done within 0.05 s of a cancellation" in caplog.text
