"""A killed watcher is dead: nothing of it runs, nothing warns, and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import ClassVar

import anyio
import anyio.to_thread
import pytest

from triggers import BaseEventTrigger, TriggerEvent
from triggers.testing import VirtualClock, crash_everywhere_sync
from triggers.testing.crashes.freezing import FreezableLoop, Killed

from .watchers import Checkpointed

ROOT = Path(__file__).parents[3]


def test_neither_finally_nor_except_nor_cleanup_runs() -> None:
    Checkpointed.notes.clear()
    report = crash_everywhere_sync(Checkpointed)
    gc.collect()
    # Each run ends with a life that nobody kills, and there are two of those in the one in which nothing goes wrong.
    lives = len(report.outcomes) + 1
    notes = Counter(Checkpointed.notes)
    over = sum(str(point).startswith("run() was over") for point in report.points)
    assert notes["CancelledError"] == notes["GeneratorExit"] == 0
    assert notes["finally"] == notes["cleanup"] == lives + over


class Children(BaseEventTrigger):
    """Has tasks, threads and generators of its own."""

    notes: ClassVar[list[str]] = []

    busy: ClassVar[int] = 0

    def _work(self) -> None:
        Children.busy += 1
        sum(range(20_000))
        Children.busy -= 1

    async def _numbers(self, at: int) -> AsyncIterator[int]:
        try:
            while at < 3:
                at += 1
                await anyio.to_thread.run_sync(self._work)
                yield at
        finally:
            self.notes.append("generator")

    async def _beat(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self.notes.append("task")

    async def run(self) -> AsyncIterator[TriggerEvent]:
        at = await self.asset_state.aget("at", 0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._beat)
            async for number in self._numbers(at):
                yield TriggerEvent(number, checkpoint={"at": number})
            tasks.cancel_scope.cancel()


def nobody_works() -> None:
    assert Children.busy == 0


def test_tasks_threads_and_sockets_of_the_dead_are_given_back() -> None:
    crash_everywhere_sync(Children, limit=1)
    Children.notes.clear()
    threads = threading.active_count()
    files = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    report = crash_everywhere_sync(Children, between=nobody_works)
    report.check()
    assert len(report.points) > 20
    codes = {point.place.code for point in report.points if point.place is not None}
    assert "await anyio.to_thread.run_sync(self._work)" in codes  # in a generator inside the generator
    gc.collect()
    for thread in threading.enumerate():
        if thread.name == "AnyIO worker thread":
            thread.join(10)
    assert threading.active_count() <= threads
    assert not files or len(os.listdir("/proc/self/fd")) <= files


def kill_a_task(say: Callable[[str], object]) -> None:
    """Kill a plain task, which nothing but the loop knows."""

    def suspended() -> None:
        raise Killed

    async def main() -> None:
        loop.watch_task()
        try:
            await asyncio.sleep(1)
        finally:
            say("finally")

    loop = FreezableLoop(VirtualClock(), suspended)
    with contextlib.suppress(Killed):
        loop.run_until_complete(main())
    loop.bury()


def test_nobody_needs_to_hold_what_is_dead() -> None:
    notes: list[str] = []
    kill_a_task(notes.append)
    gc.collect()
    assert notes == []


SCRIPT = """
from tests.triggers.testing.test_frozen import kill_a_task
from tests.triggers.testing.watchers import Checkpointed
from triggers.testing import crash_everywhere_sync
Checkpointed.notes = type("Loud", (list,), {"append": lambda self, what: print(what)})()
crash_everywhere_sync(Checkpointed).check()
kill_a_task(print)
print("the end", flush=True)
"""


def test_not_even_the_end_of_the_interpreter_wakes_the_dead() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", SCRIPT],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "the end"


def test_the_kit_needs_no_pytest() -> None:
    script = "import sys, triggers.testing; sys.exit('pytest' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


@pytest.mark.anyio
async def test_a_watcher_that_asks_for_its_task_finds_it() -> None:
    class Curious(BaseEventTrigger):
        async def run(self) -> AsyncIterator[TriggerEvent]:
            info = anyio.get_current_task()
            yield TriggerEvent(info.name, key="k")

    report = await anyio.to_thread.run_sync(lambda: crash_everywhere_sync(Curious, identify=lambda _: "one"))
    report.check()
