"""Virtual time: what jumps, in which order, and what it waits for."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from asyncstore import MemoryBackend, MetastoreBackend, TaskScope, connect
from triggers.testing import ClockStalledError, VirtualClock, VirtualEventLoop, memory_store, run_virtual, virtual_clock

YEAR = 365 * 86_400.0


async def sleeps() -> list[tuple[str, float]]:
    seen: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float, sleep: Callable[[float], Awaitable[object]]) -> None:
        await sleep(seconds)
        seen.append((name, anyio.current_time()))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sleeper, "year", YEAR, anyio.sleep)
        tasks.start_soon(sleeper, "hour", 3600, asyncio.sleep)
        tasks.start_soon(sleeper, "tick", 1e-9, asyncio.sleep)
        tasks.start_soon(sleeper, "hour too", 3600, anyio.sleep)
    return seen


EXPECTED = [("tick", 1e-9), ("hour", 3600), ("hour too", 3600), ("year", YEAR)]


def test_sleeping_takes_no_time_and_keeps_its_order() -> None:
    assert run_virtual(sleeps) == EXPECTED


def test_it_works_under_every_runner() -> None:
    assert anyio.run(sleeps, backend_options={"loop_factory": VirtualEventLoop}) == EXPECTED
    with asyncio.Runner(loop_factory=VirtualEventLoop) as runner:
        assert runner.run(sleeps()) == EXPECTED


def test_deadlines_of_anyio_and_asyncio_are_virtual() -> None:
    async def main() -> list[float]:
        seen: list[float] = []
        with anyio.move_on_after(60):
            await anyio.sleep(3600)
        seen.append(anyio.current_time())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await asyncio.Event().wait()
        seen.append(anyio.current_time())
        with pytest.raises(TimeoutError), anyio.fail_after(1):
            await anyio.sleep_forever()
        seen.append(asyncio.get_running_loop().time())
        return seen

    assert run_virtual(main) == [60, 120, 121]


def test_tiny_steps_late_in_time_end() -> None:
    async def main() -> None:
        await anyio.sleep(1e9)  # noqa: ASYNC116 - long, not for ever
        for _ in range(100):
            await anyio.sleep(0.05)
        assert anyio.current_time() == pytest.approx(1e9 + 5, abs=1e-3)

    run_virtual(main)


def test_time_stands_still_while_a_thread_owes_an_answer() -> None:
    async def main() -> None:
        go = threading.Event()

        def work() -> str:
            go.wait(20)
            return "answer"

        for call in (anyio.to_thread.run_sync, asyncio.to_thread):
            go.clear()
            asyncio.get_running_loop().call_later(0, threading.Timer(0.05, go.set).start)
            with anyio.fail_after(1e-3):  # of virtual time
                answer: str = await call(work)
            assert answer == "answer"
        assert anyio.current_time() < 1e-3

    run_virtual(main)


def test_time_passes_once_a_thread_is_idle() -> None:
    async def main() -> None:
        await anyio.to_thread.run_sync(lambda: None)
        await anyio.sleep(YEAR)
        assert anyio.current_time() >= YEAR

    run_virtual(main)


def test_time_passes_after_the_work_of_a_thread_was_given_up() -> None:
    # Some releases of anyio forget the thread whose work was given up in the turn in which it was handed over.
    async def main() -> None:
        await anyio.to_thread.run_sync(lambda: None)
        for turns in range(6):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(anyio.to_thread.run_sync, lambda: None, abandon_on_cancel=True))
                for _ in range(turns):
                    await asyncio.sleep(0)
                tasks.cancel_scope.cancel()
        await anyio.sleep(YEAR)
        assert anyio.current_time() >= YEAR

    run_virtual(main)


def test_a_store_on_sqlite_works_in_virtual_time(tmp_path: Path) -> None:
    async def main() -> None:
        clock = virtual_clock()
        async with connect(f"sqlite+aiosqlite:///{tmp_path}/s.db", clock=clock) as store:
            state = store.task_state(TaskScope("d", "r", "t"))
            for number in range(20):
                with anyio.fail_after(1):
                    await state.aset("key", number, retention=timedelta(hours=1))
                    assert await state.aget("key") == number
                await anyio.sleep(3599)
                assert await state.aget("key") == number
                await anyio.sleep(1)
                assert await state.aget("key") is None

    run_virtual(main)


def test_values_in_memory_expire_by_the_time_of_the_loop() -> None:
    async def main() -> None:
        async with memory_store() as store:
            assert isinstance(store.backend, MemoryBackend)
            state = store.task_state(TaskScope("d", "r", "t"))
            for seconds in (0.1, 0.3, 7.7, 3600.0, 86400.1):
                await state.aset("key", 1, retention=timedelta(seconds=seconds))
                await anyio.sleep(seconds - 2e-6)
                assert await state.aget("key") == 1
                await anyio.sleep(2e-6)
                assert await state.aget("key") is None

    run_virtual(main)


def test_a_future_that_a_timer_settles_is_owed_by_nobody() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_later(3600, future.set_result, "late")
        assert await future == "late"
        assert loop.time() == 3600
        abandoned = loop.create_future()  # nobody waits for it
        await anyio.sleep(3600)
        assert not abandoned.done()

    run_virtual(main)


def test_a_socket_gets_its_grace() -> None:
    async def main() -> None:
        one, other = socket.socketpair()
        one.setblocking(False)
        loop = asyncio.get_running_loop()
        with one, other:
            threading.Timer(0.05, other.send, [b"x"]).start()
            assert await asyncio.wait_for(loop.sock_recv(one, 1), 1e-3) == b"x"
            came = asyncio.Event()
            loop.add_reader(one, came.set)
            other.send(b"y")
            async with asyncio.timeout(1e-3):
                await came.wait()
            loop.remove_reader(one)

    with asyncio.Runner(loop_factory=VirtualEventLoop) as runner:
        runner.run(main())


def test_a_clock_that_is_held_stands_still() -> None:
    async def main() -> None:
        clock, loop, came = virtual_clock(), asyncio.get_running_loop(), asyncio.Event()
        assert clock is not None
        holding = threading.Event()

        def work() -> None:
            with clock.hold():
                holding.set()
                go.wait(20)
                loop.call_soon_threadsafe(came.set)

        go = threading.Event()
        threading.Thread(target=work).start()
        await anyio.to_thread.run_sync(holding.wait)
        threading.Timer(0.05, go.set).start()
        with anyio.fail_after(1e-3):
            await came.wait()
        await anyio.sleep(YEAR)

    run_virtual(main)


def test_a_store_on_postgresql_works_in_virtual_time(database_url: str) -> None:
    async def main() -> None:
        async with connect(database_url) as store:
            state = store.task_state(TaskScope("d", "r", "t"))
            for number in range(5):
                with anyio.fail_after(1):
                    await state.aset("key", number)
                    assert await state.aget("key") == number
                await anyio.sleep(3600)
        assert anyio.current_time() >= 5 * 3600

    asyncio.run(MetastoreBackend(database_url).aupgrade())
    run_virtual(main)


def test_a_clock_that_cannot_go_on_says_who_keeps_it() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    for forever, why in (
        (main, rf"nobody has settled .*{Path(__file__).name}:\d+ in .*main"),
        (anyio.Event().wait, "nothing can happen"),
    ):
        loop = VirtualEventLoop(patience=0.05)
        task = loop.create_task(forever())
        with pytest.raises(ClockStalledError, match=why):
            loop.run_until_complete(task)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.close()


def test_there_is_a_clock_on_virtual_loops_only() -> None:
    async def main() -> VirtualClock | None:
        return virtual_clock()

    mine = VirtualClock()
    assert run_virtual(main, clock=mine) is mine
    assert asyncio.run(main()) is None
    assert virtual_clock() is None


def test_the_wall_clock_follows_and_can_be_moved_alone() -> None:
    clock = VirtualClock()
    before = clock.microseconds()
    clock.pass_seconds(1.5)
    assert clock.microseconds() - before == 1_500_000
    clock.advance(timedelta(hours=-1))
    assert (clock.seconds, clock.microseconds() - before) == (1.5, 1_500_000 - 3_600_000_000)
    assert repr(clock) == "<VirtualClock at 1.5 s>"
