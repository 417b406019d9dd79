"""Triggerers that share watchers."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import anyio
import pytest

from asyncstore import Asset, StoreUnavailableError, WatcherOrder, WatcherState
from asyncstore.backends.memory.fleet import MemoryFleet
from asyncstore.fleet import Member
from tests.triggers.harness.world import BEAT, LEASE, NAMES, Failing, Once, Ticking, World, virtual, watched
from triggers import Triggerer, TriggerEvent
from triggers.testing import run_virtual


@virtual
async def test_they_divide_by_capacity_and_one_that_joins_has_its_part_within_two_heartbeats(world: World) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: world.run("a", watched(*NAMES), capacity=10))
        await anyio.sleep(1)
        assert await world.holders() == Counter(a=10)  # its capacity
        tasks.start_soon(lambda: world.run("b", watched(*NAMES), capacity=10))
        await anyio.sleep(2 * BEAT)
        assert await world.holders() == Counter(a=6, b=6)
        tasks.start_soon(lambda: world.run("c", watched(*NAMES), capacity=20))
        await anyio.sleep(2 * BEAT)
        assert await world.holders() == Counter(a=3, b=3, c=6)
        world.running["c"].stop()
        await anyio.sleep(2)
        assert await world.holders() == Counter(a=6, b=6)
        for triggerer in world.running.values():
            triggerer.stop()
    await world.judge(*NAMES)
    assert await world.holders() == Counter()


@virtual
async def test_one_that_cannot_reach_the_store_loses_its_watchers_and_joins_anew(world: World) -> None:
    cut: set[str] = set()
    beat, join = MemoryFleet.abeat, MemoryFleet.ajoin

    async def joins(self: MemoryFleet, owner: str, **options: Any) -> Member:
        while owner in cut:  # noqa: ASYNC110 - the fault
            await anyio.sleep(1)
        return await join(self, owner, **options)

    async def hangs(self: MemoryFleet, member: Member, lease: timedelta, within: float) -> bool:
        owner = next((each.owner for each in await self.alist_members() if each.id == member.id), "")
        while owner in cut:  # noqa: ASYNC110 - the fault
            await anyio.sleep(1)
        return await beat(self, member, lease, within)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryFleet, "abeat", hangs)
        patch.setattr(MemoryFleet, "ajoin", joins)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: world.run("a", watched(*NAMES)))
            tasks.start_soon(lambda: world.run("b", watched(*NAMES)))
            await anyio.sleep(3 * BEAT)
            assert await world.holders() == Counter(a=6, b=6)
            cut.add("a")
            await anyio.sleep(LEASE + 1)
            assert await world.holders() == Counter(b=12)
            assert len([note for note in Ticking.notes if note.startswith("cleanup")]) >= 6
            cut.clear()
            await anyio.sleep(3 * BEAT)
            assert await world.holders() == Counter(a=6, b=6)
            for triggerer in world.running.values():
                triggerer.stop()
    await world.judge(*NAMES)


@virtual
async def test_a_store_that_is_away_at_the_start_is_waited_for(world: World) -> None:
    attempts: list[float] = []
    join = MemoryFleet.ajoin

    async def away(self: MemoryFleet, *args: Any, **options: Any) -> Member:
        attempts.append(anyio.current_time())
        if len(attempts) < 4:
            raise StoreUnavailableError("away")
        return await join(self, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryFleet, "ajoin", away)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: world.run("a", watched("a")))
            await anyio.sleep(60)
            assert await world.holders() == Counter(a=1)
            world.running["a"].stop()
    assert len(attempts) == 4


@virtual
async def test_what_only_some_can_run_stays_with_them(world: World) -> None:
    both, first, second = NAMES[:4], NAMES[4:8], NAMES[8:]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: world.run("a", watched(*both, *first)))
        tasks.start_soon(lambda: world.run("b", watched(*second, *both)))
        await anyio.sleep(4 * BEAT)
        assert await world.holders() == Counter(a=6, b=6)
        owners = {each.asset: each.owner for each in await world.backend.alist_watchers()}
        assert {owners[name] for name in first} == {"a"}
        assert {owners[name] for name in second} == {"b"}
        # Nobody declares these any more: they wait.
        world.running["a"].stop()
        await anyio.sleep(4 * BEAT)
        assert await world.holders() == Counter(b=8)
        states = await world.states()
        assert {states[name] for name in first} == {WatcherState.WAITING}
        world.running["b"].stop()
    await world.judge(*NAMES)


@virtual
async def test_what_returned_stays_done_until_it_is_restarted(world: World) -> None:
    await world.run("a", watched("a", kind=Once))
    assert await world.states() == {"a": WatcherState.DONE}
    await world.run("b", watched("a", kind=Once))
    assert len(await world.backend.alist_events()) == 1
    async with world.opened() as store:
        await store.aorder_watcher(Asset("a"), "w", WatcherOrder.RESTART)
        await Triggerer(store, watched("a", kind=Once)).run()
        assert len(await world.backend.alist_events()) == 2
        await Triggerer(store, watched("a", kind=Once), begin_anew=True).run()
    assert len(await world.backend.alist_events()) == 3


@virtual
async def test_beyond_the_capacity_they_wait_for_room(world: World) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: world.run("a", watched("a", "b", "c", kind=Once), capacity=2))
        await anyio.sleep(30)
        assert Counter((await world.states()).values()) == {WatcherState.RUNNING: 2, WatcherState.WAITING: 1}
    assert set((await world.states()).values()) == {WatcherState.DONE}
    assert len(await world.backend.alist_events()) == 3


@virtual
async def test_one_that_fails_again_and_again_is_crash_looping_and_a_restart_does_not_wait(world: World) -> None:
    async with world.opened() as operator, anyio.create_task_group() as tasks:
        tasks.start_soon(
            lambda: world.run(
                "a", [*watched("bad", kind=Failing), *watched("good")], restart_delay=5, crash_loop_after=3
            )
        )
        await anyio.sleep(2)
        assert (await world.states())["bad"] is WatcherState.BACKING_OFF
        await anyio.sleep(100)
        assert (await world.states())["bad"] is WatcherState.CRASH_LOOPING
        record = next(each for each in await operator.alist_watchers() if each.asset == "bad")
        assert record.restarts >= 3
        assert "RuntimeError: broken" in (record.last_error or "")
        Failing.broken = False
        await operator.aorder_watcher(Asset("bad"), "w", WatcherOrder.RESTART)
        await anyio.sleep(1)
        assert (await world.states())["bad"] is WatcherState.DONE
        assert "mended" in [each.payload for each in await operator.events(Asset("bad")).alist()]
        world.running["a"].stop()
    await world.judge("good")


@virtual
async def test_a_kill_while_it_backs_off_still_calls_on_kill(world: World) -> None:
    async with world.opened() as operator, anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: world.run("a", watched("bad", kind=Failing), restart_delay=100))
        await anyio.sleep(10)
        Ticking.notes.clear()
        record = await operator.aorder_watcher(Asset("bad"), "w", WatcherOrder.KILL)
        assert record.asked is WatcherOrder.KILL
        await anyio.sleep(1)
        assert Ticking.notes == ["on_kill bad", "cleanup bad"]
        assert await world.states() == {"bad": WatcherState.KILLED}
        world.running["a"].stop()


@virtual
async def test_pause_and_resume(world: World) -> None:
    async with world.opened() as operator, anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: world.run("a", watched("a", "b")))
        await anyio.sleep(5)
        await operator.aorder_watcher(Asset("a"), "w", WatcherOrder.PAUSE)
        await anyio.sleep(1)
        assert await world.states() == {"a": WatcherState.PAUSED, "b": WatcherState.RUNNING}
        count = len(await operator.events(Asset("a")).alist())
        await anyio.sleep(100)
        assert len(await operator.events(Asset("a")).alist()) == count
        await operator.aorder_watcher(Asset("a"), "w", WatcherOrder.RESUME)
        await anyio.sleep(1)
        assert await world.states() == {"a": WatcherState.RUNNING, "b": WatcherState.RUNNING}
        world.running["a"].stop()
    await world.judge("a", "b")
    assert "on_kill a" not in Ticking.notes


def test_an_idle_triggerer_asks_as_little_for_many_watchers_as_for_few() -> None:
    def calls(count: int) -> Counter[str]:
        found: Counter[str] = Counter()
        seen: Counter[str] = Counter()

        async def main() -> None:
            world = World()
            with pytest.MonkeyPatch.context() as patch:
                for name in ("abeat", "asurvey", "aload", "aclaim", "arelease", "adeclare"):
                    patch.setattr(MemoryFleet, name, _counted(getattr(MemoryFleet, name), name, found))
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(lambda: world.run("a", watched(*map(str, range(count)), kind=Once)))
                    await anyio.sleep(1)
                    found.clear()
                    await anyio.sleep(50)
                    seen.update(found)
                    world.running["a"].stop()

        run_virtual(main)
        return seen

    few, many = calls(2), calls(500)
    assert few == many
    assert few["abeat"] == 5
    assert few["aclaim"] == 0


def _counted(function: Any, name: str, found: Counter[str]) -> Any:
    async def counted(*args: Any, **options: Any) -> Any:
        found[name] += 1
        return await function(*args, **options)

    return counted


@virtual
async def test_a_claim_whose_answer_is_lost_is_found_and_run(world: World) -> None:
    claim, lost = MemoryFleet.aclaim, [True]

    async def loses(self: MemoryFleet, *args: Any, **options: Any) -> Any:
        found = await claim(self, *args, **options)
        if lost:
            lost.clear()
            raise StoreUnavailableError("the answer was lost")
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryFleet, "aclaim", loses)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: world.run("a", watched(*NAMES)))
            await anyio.sleep(6 * BEAT)
            events = {event.asset for event in await world.backend.alist_events()}
            assert events == set(NAMES)
            world.running["a"].stop()
    await world.judge(*NAMES)


@virtual
async def test_a_watcher_that_raises_a_cancellation_of_its_own_backs_off(world: World) -> None:
    class Cancelled(Ticking):
        async def run(self) -> AsyncIterator[TriggerEvent]:
            job = asyncio.get_running_loop().create_future()
            job.cancel()  # by somebody else, say
            yield TriggerEvent(await job)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: world.run("a", watched("a", kind=Cancelled), restart_delay=5))
        await anyio.sleep(1)
        assert await world.states() == {"a": WatcherState.BACKING_OFF}
        world.running["a"].stop()


@virtual
async def test_a_watcher_that_returns_when_it_is_cancelled_is_not_done(world: World) -> None:
    class Polite(Ticking):
        async def run(self) -> AsyncIterator[TriggerEvent]:
            yield TriggerEvent(1)
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():
                return

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: world.run("a", watched("a", kind=Polite)))
        await anyio.sleep(1)
        world.running["a"].stop()
    assert await world.states() == {"a": WatcherState.WAITING}


@virtual
async def test_a_drain_says_that_it_takes_no_more(world: World) -> None:
    class Slow(Ticking):
        async def cleanup(self) -> None:
            await anyio.sleep(2)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: world.run("a", watched("a", "b", kind=Slow)))
        await anyio.sleep(1)
        world.running["a"].stop()
        await anyio.sleep(1)
        (member,) = await world.backend.fleet.alist_members()
        assert (member.draining, member.running) == (True, 2)
    assert await world.holders() == Counter()


def test_the_log_says_when_a_lease_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "triggers")

    @virtual
    async def course(world: World) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: world.run("a", watched("a")))
            await anyio.sleep(1)
            (member,) = await world.backend.fleet.alist_members()
            await world.backend.fleet.abury([member.id])
            await anyio.sleep(BEAT)
            world.running["a"].stop()

    course()
    assert "joining anew" in caplog.text
    assert "claimed by another process" in caplog.text or "lease has run out" in caplog.text
