"""Triggerers, and what comes between two steps of theirs."""

# pyright: reportPrivateUsage=false - the moments between two steps are nobody else's
from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import anyio
import pytest

from asyncstore import (
    Asset,
    AssetError,
    MemoryBackend,
    StoreBusyError,
    StoreUnavailableError,
    WatcherOrder,
    WatcherState,
)
from asyncstore.backends.memory.fleet import MemoryFleet
from asyncstore.fleet import Claim, Member
from tests.triggers.harness.world import BEAT, LEASE, NAMES, Failing, Ticking, World, virtual, watched
from triggers import TriggerEvent
from triggers.harness.membership import Membership
from triggers.harness.roster import Roster
from triggers.harness.supervisor import Supervisor


class Quiet(Ticking):
    async def run(self) -> AsyncIterator[TriggerEvent]:
        yield TriggerEvent(1)
        await anyio.sleep_forever()


class Slow(Ticking):
    async def cleanup(self) -> None:
        await anyio.sleep(2)


class Stuck(Ticking):
    async def cleanup(self) -> None:
        await anyio.sleep(1000)


async def _members(world: World) -> list[str]:
    return [each.owner for each in await world.backend.fleet.alist_members()]


# Leaving.


@virtual
async def test_who_is_cancelled_twice_ends_and_renews_no_lease(world: World) -> None:
    task = asyncio.create_task(world.run("a", watched("a", kind=Slow)))
    await anyio.sleep(1)
    task.cancel()
    await anyio.sleep(1)
    task.cancel()
    await anyio.sleep(LEASE + 5)
    assert task.done()
    assert all(not each.lease_remaining > timedelta(0) for each in await world.backend.fleet.alist_members())


@virtual
async def test_who_cannot_leave_ends_with_the_error(world: World) -> None:
    async def breaks(self: MemoryFleet, member: Member) -> None:
        raise RuntimeError("no thread can be started")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryFleet, "adrain", breaks)
        task = asyncio.create_task(world.run("a", watched("a")))
        await anyio.sleep(1)
        world.running["a"].stop()
        await anyio.sleep(5)
        assert task.done()
        assert isinstance(task.exception(), ExceptionGroup)


@virtual
async def test_who_is_stopped_while_it_joins_leaves(world: World) -> None:
    join = MemoryFleet.ajoin

    async def slow(self: MemoryFleet, owner: str, **options: Any) -> Member:
        member = await join(self, owner, **options)
        await anyio.sleep(1)
        return member

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryFleet, "ajoin", slow)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(world.run, "a", watched(*NAMES))
            await anyio.sleep(0.5)
            world.running["a"].stop()
    assert await _members(world) == []


@virtual
async def test_who_cleans_up_for_too_long_leaves_all_the_same(world: World) -> None:
    leave = MemoryFleet.aleave

    async def takes_a_moment(self: MemoryFleet, member: Member) -> None:
        await anyio.sleep(0.001)
        await leave(self, member)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryFleet, "aleave", takes_a_moment)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(world.run, "a", watched("a", "b", kind=Stuck))
            await anyio.sleep(1)
            world.running["a"].stop()
    assert await _members(world) == []


# Answers that are lost.


@virtual
async def test_a_joining_whose_answer_is_lost_and_that_can_run_more_the_next_time(world: World) -> None:
    join, resolve = MemoryFleet.ajoin, Roster._resolve
    lost, refused = [True], [True]

    async def loses(self: MemoryFleet, owner: str, **options: Any) -> Member:
        member = await join(self, owner, **options)
        if lost:
            lost.clear()
            raise StoreUnavailableError("the answer is lost")
        return member

    async def refuses_one(self: Roster, missing: list[Supervisor]) -> Any:
        found: list[Any] = []
        for each in missing:
            if refused and each.asset.name == NAMES[3]:
                refused.clear()
                self._refuse(each, AssetError("in conflict, for now"))
            else:
                found += await resolve(self, [each])
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryFleet, "ajoin", loses)
        patch.setattr(Roster, "_resolve", refuses_one)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(world.run, "a", watched(*NAMES))
            await anyio.sleep(2 * BEAT)
            assert await world.holders() == Counter(a=12)
            world.running["a"].stop()


@virtual
async def test_two_disagreements_that_offset_each_other_are_found(world: World) -> None:
    claim, loses_one = MemoryFleet.aclaim, [False]

    async def loses(self: MemoryFleet, *args: Any, **options: Any) -> Any:
        found = await claim(self, *args, **options)
        if loses_one[0]:
            loses_one[0] = False
            raise StoreUnavailableError("the answer is lost")
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryFleet, "aclaim", loses)
        async with world.opened() as operator, anyio.create_task_group() as tasks:
            tasks.start_soon(world.run, "a", watched("x", "y", kind=Quiet))
            await anyio.sleep(2)
            await operator.aorder_watcher(Asset("x"), "w", WatcherOrder.PAUSE)
            await anyio.sleep(1)
            loses_one[0] = True
            await operator.aorder_watcher(Asset("x"), "w", WatcherOrder.RESUME)
            await operator.adelete_asset(Asset("y"))
            await anyio.sleep(5 * BEAT)
            assert world.running["a"].states == {WatcherState.RUNNING: 2}
            assert await world.holders() == Counter(a=2)
            world.running["a"].stop()


@virtual
async def test_a_paused_watcher_whose_asset_is_deleted_is_declared_anew(world: World) -> None:
    async with world.opened() as operator, anyio.create_task_group() as tasks:
        tasks.start_soon(world.run, "a", watched("a"))
        await anyio.sleep(1)
        await operator.aorder_watcher(Asset("a"), "w", WatcherOrder.PAUSE)
        await anyio.sleep(5)
        await operator.adelete_asset(Asset("a"))
        await anyio.sleep(5 * BEAT)
        assert await world.states() == {"a": WatcherState.RUNNING}
        world.running["a"].stop()


@virtual
async def test_assets_that_go_while_others_are_declared_anew(world: World) -> None:
    register = MemoryBackend.aregister_assets

    async def slow(self: MemoryBackend, assets: Any) -> Any:
        await anyio.sleep(0.05)
        return await register(self, assets)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryBackend, "aregister_assets", slow)
        async with world.opened() as operator, anyio.create_task_group() as tasks:
            tasks.start_soon(world.run, "a", watched(*NAMES))
            await anyio.sleep(5)
            for name in NAMES:
                await operator.adelete_asset(Asset(name))
            await anyio.sleep(6 * BEAT)
            assert await world.holders() == Counter(a=12)
            world.running["a"].stop()


# Others.


@virtual
async def test_one_that_is_there_and_takes_nothing_is_given_nothing_again(world: World) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.run, "a", watched(*NAMES))
        await anyio.sleep(2 * BEAT)
        fleet, ids = world.backend.fleet, sorted(world.backend._tables.watchers)
        lease = timedelta(seconds=LEASE)
        ghost = await fleet.ajoin("ghost", token="ghost", capacity=10_000, watchers=ids, lease=lease)
        counts: list[int] = []
        for _ in range(60):
            await anyio.sleep(BEAT / 2)
            await fleet.abeat(ghost, lease, 1.0)
            counts.append((await world.holders())["a"])
        assert counts[:2] == [6, 6]
        assert counts[6:] == [12] * 54
        world.running["a"].stop()


class Shared(Ticking):
    def shared_stream_key(self) -> str:
        return "one"

    @classmethod
    async def open_shared_stream(cls, kwargs: Any) -> AsyncIterator[Any]:
        while True:
            yield 1
            await anyio.sleep(1)

    async def filter_shared_stream(self, stream: AsyncIterator[Any]) -> AsyncIterator[TriggerEvent]:
        async for number in stream:
            yield TriggerEvent(number)


@virtual
async def test_streams_do_not_wait_for_what_was_claimed_and_not_started(world: World) -> None:
    keep, start, started, lost = Membership.keep, Roster._start, [0], asyncio.Event()

    def counted(self: Roster, claim: Claim) -> None:
        start(self, claim)
        started[0] += 1
        if started[0] == 60:
            lost.set()

    async def loses(self: Membership) -> None:
        if lost.is_set():
            await keep(self)
        else:
            await lost.wait()
            await world.backend.fleet.abury([self.member.id])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Roster, "_start", counted)
        patch.setattr(Membership, "keep", loses)
        async with anyio.create_task_group() as tasks:
            names = [str(number) for number in range(200)]
            tasks.start_soon(lambda: world.run("a", watched(*names, kind=Shared), capacity=3))
            tasks.start_soon(lambda: world.run("b", watched(*names, kind=Shared), capacity=1000))
            await anyio.sleep(8 * BEAT)
            for owner in "ab":
                waited = [place for each in world.running[owner]._streams._members.values() for place in each]
                assert len(waited) == (await world.holders())[owner]
            for triggerer in world.running.values():
                triggerer.stop()


# Reports and orders.


@virtual
async def test_reports_that_hang_hold_up_no_sibling(world: World) -> None:
    report, attempts = MemoryBackend.areport_watcher, [0]

    class Bad(Ticking):
        async def run(self) -> AsyncIterator[TriggerEvent]:
            attempts[0] += self.asset.name == "good"
            await anyio.sleep(0.5)
            yield TriggerEvent(1 // 0)

    async def hangs(self: MemoryBackend, lease: Any, *args: Any, **options: Any) -> None:
        if lease.asset.name != "good":
            await anyio.sleep(30)
            raise StoreBusyError("a lock")
        await report(self, lease, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryBackend, "areport_watcher", hangs)
        async with anyio.create_task_group() as tasks:
            bad = watched("1", "2", "3", "4", "good", kind=Bad)
            tasks.start_soon(lambda: world.run("a", bad, restart_delay=1, restart_delay_max=1))
            await anyio.sleep(60)
            assert attempts[0] > 60 / 1.6
            world.running["a"].stop()


@virtual
async def test_the_last_report_of_a_watcher_is_kept_when_it_is_given_back(world: World) -> None:
    report = MemoryBackend.areport_watcher

    async def slow(self: MemoryBackend, *args: Any, **options: Any) -> None:
        await anyio.sleep(0.3)
        await report(self, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryBackend, "areport_watcher", slow)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(world.run, "a", watched(*NAMES, kind=Failing))
            await anyio.sleep(0.1)
            world.running["a"].stop()
    assert all("broken" in (each.last_error or "") for each in await world.backend.alist_watchers())


@virtual
async def test_a_restart_of_what_was_killed_counts_from_nothing(world: World) -> None:
    async with world.opened() as operator, anyio.create_task_group() as tasks:
        bad = watched("bad", kind=Failing)
        tasks.start_soon(lambda: world.run("a", bad, restart_delay=5, crash_loop_after=3))
        await anyio.sleep(200)
        (record,) = await operator.alist_watchers()
        assert (record.state, record.restarts > 3) == (WatcherState.CRASH_LOOPING, True)
        await operator.aorder_watcher(Asset("bad"), "w", WatcherOrder.KILL)
        await anyio.sleep(1)
        await operator.aorder_watcher(Asset("bad"), "w", WatcherOrder.RESTART)
        await anyio.sleep(1)
        (record,) = await operator.alist_watchers()
        assert (record.state, record.restarts) == (WatcherState.BACKING_OFF, 0)
        world.running["a"].stop()


def test_a_kill_is_carried_out_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "triggers")

    class Slowly(Ticking):
        async def on_kill(self) -> None:
            await super().on_kill()
            await anyio.sleep(60)

    @virtual
    async def course(world: World) -> None:
        async with world.opened() as operator, anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: world.run("a", watched("a", "b", kind=Slowly), drain_timeout=100))
            await anyio.sleep(2)
            await operator.aorder_watcher(Asset("a"), "w", WatcherOrder.KILL)
            await anyio.sleep(70)
            world.running["a"].stop()

    course()
    assert len([record for record in caplog.records if "asked to kill" in record.message]) == 1
    assert Ticking.notes.count("on_kill a") == 1


@virtual
async def test_a_stop_before_the_first_step_is_not_forgotten(world: World) -> None:
    start, once = Roster._start, [True]

    def stopped(self: Roster, claim: Claim) -> None:
        start(self, claim)
        if once:
            once.clear()
            self.give_away([claim.watcher_id])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Roster, "_start", stopped)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(world.run, "a", watched("a"))
            await anyio.sleep(5)
            (record,) = await world.backend.alist_watchers()
            assert record.fence == 3  # claimed, given back, claimed
            world.running["a"].stop()


@virtual
async def test_beyond_its_capacity_it_counts_no_more_often(world: World) -> None:
    load, count = MemoryFleet.aload, [0]

    async def counted(self: MemoryFleet, declares: Any) -> Any:
        count[0] += 1
        return await load(self, declares)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryFleet, "aload", counted)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: world.run("a", watched(*NAMES), capacity=10))
            await anyio.sleep(5)
            count[0] = 0
            for _ in range(40):
                await anyio.sleep(BEAT / 40)
                await world.backend.fleet.abury()  # tells everybody
            assert count[0] <= 1
            world.running["a"].stop()
