from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from asyncstore import Asset, Store
from triggers import AdvanceItem, AssetWatcher, SharedStreamError, Triggerer, Verdict

from ..support import Recorder, run_to_the_end, until
from .broker import Broker, Message, counts
from .support import Messages, World, driver, settle

pytestmark = pytest.mark.anyio


def assets_of(*triggers: Messages) -> list[Asset]:
    return [Asset(trigger.name, watchers=[AssetWatcher("w", trigger)]) for trigger in triggers]


def payloads(recorder: Recorder, asset: str) -> list[Any]:
    return [event.payload for event in recorder.events if event.asset == asset]


async def test_a_message_is_acknowledged_when_every_derived_event_is_committed(
    store: Store, world: World, broker: Broker
) -> None:
    triggers = [Messages("one"), Messages("two"), Messages("even", every=2)]
    assets = assets_of(*triggers)

    async def look(batch: Sequence[AdvanceItem]) -> None:
        for item in batch:
            for trigger, asset in zip(triggers, assets, strict=True):
                recorded = [event.payload for event in await store.events(asset).alist()]
                assert (item.receipt.number in recorded) == (item.receipt.number % trigger.every == 0)

    broker.on_advance = look
    broker.publish(1, 2, 3, 4)
    broker.close()
    await run_to_the_end(store, *assets)
    assert [counts(item) for item in broker.items] == [(1, 2, 1, 0), (2, 3, 0, 0), (3, 2, 1, 0), (4, 3, 0, 0)]
    assert (broker.acknowledged, broker.dead, broker.connections) == ([1, 2, 3, 4], [], 1)


async def test_what_failed_is_redelivered_and_what_all_pass_over_is_dead(
    store: Store, world: World, broker: Broker
) -> None:
    tries: list[int] = []

    async def fail_twice(name: str, number: int) -> None:
        if name == "flaky" and number == 2:
            tries.append(number)
            if len(tries) < 3:
                raise OSError("not yet")

    world.on_work = fail_twice
    broker.publish(1, 2, 3, 4)
    broker.close()
    triggers = [Messages("calm", every=2), Messages("flaky", every=2)]
    recorder = await run_to_the_end(store, *assets_of(*triggers))
    # The calm one is given 2 three times, and its key makes one event of it.
    for name in ("calm", "flaky"):
        assert sorted(payloads(recorder, name)) == [2, 4]
    assert broker.dead == [1, 3]
    assert sorted(broker.acknowledged) == [2, 4]
    assert [counts(item) for item in broker.items if item.receipt.number == 2] == [(2, 1, 0, 1)] * 2 + [(2, 2, 0, 0)]


def test_the_suggestion_for_each_outcome() -> None:
    assert AdvanceItem("r", accepted=1, rejected=49).verdict is Verdict.ACKNOWLEDGE
    assert AdvanceItem("r", accepted=49, failed=1).verdict is Verdict.REDELIVER
    assert AdvanceItem("r", rejected=1).verdict is Verdict.DEAD_LETTER
    assert AdvanceItem("r", rejected=1, failed=1).verdict is Verdict.REDELIVER
    assert AdvanceItem("r").verdict is Verdict.REDELIVER


async def test_lanes_do_not_wait_for_each_other_and_are_in_order(world: World, broker: Broker) -> None:
    go_on = anyio.Event()

    async def hang_lane_a(batch: Sequence[AdvanceItem]) -> None:
        if batch[0].receipt.lane == "a":
            await go_on.wait()

    broker.on_advance = hang_lane_a
    broker.publish(1, 2, 3, lane="a")
    broker.publish(11, 12, lane="b")
    async with driver() as drive, anyio.create_task_group() as tasks:
        tasks.start_soon(drive.keep, Messages("w"))
        await until(lambda: broker.acknowledged == [11, 12])
        go_on.set()
        await until(lambda: broker.acknowledged == [11, 12, 1, 2, 3])
        tasks.cancel_scope.cancel()


async def test_a_lane_waits_for_its_first_while_the_other_goes_on(world: World, broker: Broker) -> None:
    async with driver() as drive, anyio.create_task_group() as tasks:
        drive.hub.expect("late", Messages("late"))
        broker.publish(1, lane="a")
        tasks.start_soon(drive.keep, Messages("early"))
        await until(lambda: drive.committed == {"early": [1]})
        drive.hub.retire("early")  # it ends; what it answered stays answered
        broker.publish(2, lane="b")
        await settle()
        assert broker.items == []
        tasks.start_soon(drive.keep, Messages("late"))
        await until(lambda: broker.acknowledged == [1, 2])
        tasks.cancel_scope.cancel()


async def test_a_watcher_that_has_not_started_is_waited_for(world: World, broker: Broker) -> None:
    async with driver() as drive, anyio.create_task_group() as tasks:
        for name in ("early", "late"):
            drive.hub.expect(name, Messages(name))
        broker.publish(1, 2)
        tasks.start_soon(drive.keep, Messages("early"))
        await until(lambda: drive.committed == {"early": [1, 2]})
        await settle()
        assert broker.items == []
        tasks.start_soon(drive.keep, Messages("late"))
        await until(lambda: broker.acknowledged == [1, 2])
        assert drive.committed["late"] == [1, 2]
        assert max(item.receipt.deliveries for item in broker.items) == 1
        tasks.cancel_scope.cancel()


async def test_a_watcher_that_is_declared_later_is_waited_for_from_then_on(world: World, broker: Broker) -> None:
    async with driver() as drive, anyio.create_task_group() as tasks:
        tasks.start_soon(drive.keep, Messages("early"))
        broker.publish(1)
        await until(lambda: broker.acknowledged == [1])
        drive.hub.expect("late", Messages("late"))
        broker.publish(2)
        await until(lambda: drive.committed == {"early": [1, 2]})
        await settle()
        assert broker.acknowledged == [1]
        tasks.start_soon(drive.keep, Messages("late"))
        await until(lambda: broker.acknowledged == [1, 2])
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("elsewhere", "outcome"), [(False, [(1, 1, 0, 0), (2, 1, 0, 0)]), (True, [(1, 1, 0, 1), (2, 1, 0, 1)])]
)
async def test_a_watcher_that_is_gone_for_good_is_not_waited_for(
    elsewhere: bool, outcome: list[tuple[int, int, int, int]], world: World, broker: Broker
) -> None:
    async with driver() as drive, anyio.create_task_group() as tasks:
        for name in ("here", "gone"):
            drive.hub.expect(name, Messages(name))
        broker.publish(1, 2)
        tasks.start_soon(drive.keep, Messages("here"))
        await until(lambda: drive.committed == {"here": [1, 2]})
        assert broker.items == []
        drive.hub.retire("gone", elsewhere=elsewhere)
        drive.hub.retire("gone", elsewhere=elsewhere)
        await until(lambda: len(broker.items) >= 2)
        assert [counts(item) for item in broker.items[:2]] == outcome
        if elsewhere:  # redelivered, and answered by those that are here
            await until(lambda: broker.acknowledged == [1, 2])
        tasks.cancel_scope.cancel()


async def test_a_watcher_that_another_process_claims_fails_what_it_had_in_hand(
    store: Store, world: World, broker: Broker
) -> None:
    (asset,) = assets_of(Messages("a"))
    world.hold("a")
    broker.publish(1)
    triggerer = Triggerer(store, [asset])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(triggerer.run)
        await until(lambda: world.waiting == {"a"})
        await store.aclaim_watcher(asset, "w", owner="another")
        world.release("a")
        await until(lambda: bool(broker.items))
        triggerer.stop()
    assert [counts(item) for item in broker.items] == [(1, 0, 0, 1)]
    assert await store.events(asset).alist() == []


async def test_a_watcher_that_is_stopped_in_the_middle_is_given_the_message_again(world: World, broker: Broker) -> None:
    async with driver() as drive, anyio.create_task_group() as tasks:
        drive.hub.expect("sibling", Messages("sibling"))
        broker.publish(1, 2)
        world.hold("w")
        async with anyio.create_task_group() as attempt:
            attempt.start_soon(drive.attempt, Messages("w"))
            await settle()
            attempt.cancel_scope.cancel()
        world.release("w")
        tasks.start_soon(drive.keep, Messages("sibling"))
        await until(lambda: drive.committed == {"sibling": [1, 2]})
        assert broker.items == []
        tasks.start_soon(drive.keep, Messages("w"))
        await until(lambda: broker.acknowledged == [1, 2])
        assert drive.committed["w"] == [1, 2]
        assert max(item.receipt.deliveries for item in broker.items) == 1
        tasks.cancel_scope.cancel()


async def test_a_restart_between_commit_and_advance_redelivers_and_records_no_event_twice(
    store: Store, world: World, broker: Broker
) -> None:
    async def never(batch: Sequence[AdvanceItem]) -> None:
        await anyio.sleep_forever()

    broker.on_advance = never
    broker.publish(1, 2, 3)
    assets = assets_of(Messages("one"), Messages("two"))
    recorder = Recorder()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Triggerer(store, assets, on_event=recorder).run)
        await until(lambda: len(recorder.events) == 6)
        tasks.cancel_scope.cancel()
    assert (broker.acknowledged, broker.items) == ([], [])
    broker.on_advance = None
    broker.close()
    await run_to_the_end(store, *assets)
    assert broker.acknowledged == [1, 2, 3]
    assert [item.receipt.deliveries for item in broker.items] == [2, 2, 2]
    for asset in assets:
        assert [event.payload for event in await store.events(asset).alist()] == [1, 2, 3]


async def test_a_stuck_watcher_delays_nobody_and_what_it_missed_comes_again(world: World, broker: Broker) -> None:
    async with driver(4) as drive, anyio.create_task_group() as tasks:
        for name in ("fast", "stuck"):
            drive.hub.expect(name, Messages(name))
        world.hold("stuck")
        tasks.start_soon(drive.keep, Messages("fast"))
        tasks.start_soon(drive.keep, Messages("stuck"))
        broker.publish(*range(1, 101))
        await until(lambda: drive.committed.get("fast") == list(range(1, 101)))
        assert broker.acknowledged == []
        assert len(broker.unacknowledged) <= 5  # one waits for room
        world.release("stuck")
        broker.close()
        await until(lambda: broker.is_done)
        assert sorted(drive.committed["stuck"]) == list(range(1, 101))
        assert drive.committed["fast"] == list(range(1, 101))
        assert sorted(broker.acknowledged) == list(range(1, 101))


async def test_a_full_stream_waits_for_who_keeps_answering(world: World, broker: Broker) -> None:
    async def slowly(name: str, number: int) -> None:
        if name == "slow":
            await settle(5)

    world.on_work = slowly
    async with driver(4, patience=60.0) as drive, anyio.create_task_group() as tasks:
        for name in ("fast", "slow"):
            drive.hub.expect(name, Messages(name))
            tasks.start_soon(drive.keep, Messages(name))
        broker.publish(*range(1, 101))
        broker.close()
        await until(lambda: broker.is_done)
        assert drive.committed == {name: list(range(1, 101)) for name in ("fast", "slow")}
        assert max(item.receipt.deliveries for item in broker.items) == 1


@pytest.mark.parametrize("where", ["deliver", "advance"])
async def test_a_connection_that_breaks_is_made_again_and_nothing_is_lost(
    where: str, store: Store, world: World, broker: Broker
) -> None:
    broken: list[int] = []

    async def deliver(message: Message) -> None:
        if where == "deliver" and message.number == 3 and len(broken) < 2:
            broken.append(3)
            raise OSError("the connection broke")

    async def advance(batch: Sequence[AdvanceItem]) -> None:
        if where == "advance" and batch[0].receipt.number >= 3 and len(broken) < 2:
            broken.append(3)
            raise OSError("the connection broke")

    broker.on_deliver, broker.on_advance = deliver, advance
    broker.publish(1, 2, 3, 4, 5)
    broker.close()
    assets = assets_of(Messages("one"), Messages("two"))
    recorder = await run_to_the_end(store, *assets)
    assert len(broken) == 2
    assert broker.connections == 3
    assert broker.acknowledged == [1, 2, 3, 4, 5]
    for asset in assets:
        assert [event.payload for event in recorder.events if event.asset == asset.name] == [1, 2, 3, 4, 5]


async def test_a_lane_that_cannot_be_told_breaks_the_stream(
    world: World, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(self: object, receipt: Message) -> list[str]:
        return [receipt.lane]

    monkeypatch.setattr("tests.triggers.streams.broker.Connection.get_advance_lane", nothing)
    broker.publish(1)
    async with driver() as drive:
        with pytest.raises(SharedStreamError, match="unhashable"):
            await drive.attempt(Messages("w"))
        monkeypatch.undo()
        broker.close()
        await drive.attempt(Messages("w"))
        assert drive.committed == {"w": [1]}


async def test_alone_each_message_is_advanced_before_the_next_is_asked_for(
    store: Store, world: World, broker: Broker
) -> None:
    class Alone(Messages):
        def shared_stream_key(self) -> None:
            return None

    fail: list[int] = [2]

    async def fail_once(name: str, number: int) -> None:
        if number in fail:
            fail.remove(number)
            raise OSError("not yet")

    world.on_work = fail_once
    broker.publish(1, 2, 3, 4)
    broker.close()
    recorder = await run_to_the_end(store, *assets_of(Alone("w", every=2)))
    assert sorted(payloads(recorder, "w")) == [2, 4]
    assert (broker.acknowledged, broker.dead) == ([4, 2], [1, 3])
    assert [counts(item) for item in broker.items if item.receipt.number == 2] == [(2, 0, 0, 1), (2, 1, 0, 0)]
