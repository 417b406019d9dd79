"""Watchers of one acknowledged stream: they run in one process, whoever joins, leaves or is lost."""

from __future__ import annotations

from collections import Counter
from typing import Any

import anyio
import pytest

from asyncstore import Asset, WatcherOrder
from tests.triggers.harness.world import BEAT, LEASE, NAMES, World, virtual, watched
from tests.triggers.streams.broker import Broker
from tests.triggers.streams.support import Messages
from tests.triggers.streams.support import World as Outside
from triggers import AssetWatcher
from triggers.harness.affinity import Affinity
from triggers.harness.membership import Membership

QUEUED = [f"queued {number}" for number in range(5)]


class Queue(Messages):
    """Reads a queue that gives each message to one connection only."""


def _assets() -> list[Asset]:
    queued = [Asset(name, watchers=[AssetWatcher("w", Queue(name=name))]) for name in QUEUED]
    return [*queued, *watched(*NAMES[:5])]


async def _holders(world: World) -> set[str]:
    records = await world.backend.alist_watchers()
    return {each.owner for each in records if each.asset in QUEUED and each.lease_age is not None}


async def _publish(broker: Broker, count: int) -> None:
    for number in range(count):
        broker.publish(number)
        await anyio.sleep(0.5)


@pytest.fixture(autouse=True)
def broker() -> Broker:
    Queue.world, Queue.broker = Outside(), Broker()
    return Queue.broker


@virtual
async def test_none_misses_a_message_through_joining_stopping_and_losing(world: World) -> None:
    broker, keep, frozen = Queue.broker, Membership.keep, [False]

    async def freezes(self: Membership) -> None:
        while not frozen[0]:
            with anyio.move_on_after(1):
                return await keep(self)
        frozen[0] = False
        await world.backend.fleet.abury([self.member.id])
        return None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Membership, "keep", freezes)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_publish, broker, 400)
            for owner in "abc":
                tasks.start_soon(world.run, owner, _assets())
                await anyio.sleep(2 * BEAT)
                assert len(await _holders(world)) == 1
            assert set((await world.holders()).values()) <= {2, 3, 5}
            (first,) = await _holders(world)
            world.running[first].stop()
            await anyio.sleep(2 * BEAT)
            (second,) = await _holders(world)
            assert second != first
            frozen[0] = True  # one of them loses its lease, and joins anew
            await anyio.sleep(LEASE)
            assert len(await _holders(world)) == 1
            await anyio.sleep(100)
            for triggerer in world.running.values():
                triggerer.stop()
    told: dict[str, Counter[Any]] = {name: Counter() for name in QUEUED}
    for event in await world.backend.alist_events():
        if event.asset in QUEUED:
            told[event.asset][event.payload] += 1
    assert told == {name: Counter(range(400)) for name in QUEUED}
    assert broker.is_done


@virtual
async def test_one_that_is_resumed_runs_where_the_others_are(world: World) -> None:
    async with world.opened() as operator, anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: world.run("a", _assets(), capacity=20))
        await anyio.sleep(1)
        await operator.aorder_watcher(Asset(QUEUED[0]), "w", WatcherOrder.PAUSE)
        tasks.start_soon(lambda: world.run("b", _assets(), capacity=100))
        await anyio.sleep(2 * BEAT)
        assert len(await _holders(world)) == 1
        await operator.aorder_watcher(Asset(QUEUED[0]), "w", WatcherOrder.RESUME)
        await anyio.sleep(3 * BEAT)
        assert len(await _holders(world)) == 1
        assert sum((await world.holders()).values()) == 10
        for triggerer in world.running.values():
            triggerer.stop()


def test_the_latest_are_chosen_and_what_belongs_together_whole_or_not() -> None:
    affinity = Affinity()
    for watcher_id in (2, 3, 6):
        affinity.add(watcher_id, "queue")
    affinity.add(1, None)
    assert affinity.latest([1, 2, 3, 4, 5, 6], 2) == [5, 4]
    assert sorted(affinity.latest([1, 2, 3, 4, 5, 6], 4)) == [2, 3, 5, 6]
    assert affinity.groups([6, 1, 2]) == [([2, 6], {2, 3, 6})]
    affinity.add(3, "other")
    affinity.discard(6)
    assert sorted(affinity.latest([2, 3], 1)) == [3]
    assert [each for each in (1, 2, 3, 6) if each in affinity] == [2, 3]
