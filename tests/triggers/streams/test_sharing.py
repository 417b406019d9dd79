from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from asyncstore import Asset, Store, WatcherState
from triggers import AssetWatcher, SharedStreamError, Triggerer, TriggerEvent
from triggers.abc import source_of
from triggers.streams.source import Reader

from ..support import Recorder, run_to_the_end, until
from .support import Driver, Numbers, Placed, Snapshots, World, driver, expected, settle

pytestmark = pytest.mark.anyio


def assets_of(*triggers: Numbers) -> list[Asset]:
    return [Asset(trigger.name, watchers=[AssetWatcher("w", trigger)]) for trigger in triggers]


def payloads(recorder: Recorder, asset: str) -> list[Any]:
    return [event.payload for event in recorder.events if event.asset == asset]


@pytest.mark.parametrize("kind", [Numbers, Placed])
async def test_fifty_watchers_of_one_bucket_cost_one_listing(kind: type[Numbers], store: Store, world: World) -> None:
    world.add(4)
    world.close()
    triggers = [kind(f"w{index}", every=1 + index % 3) for index in range(50)]
    recorder = await run_to_the_end(store, *assets_of(*triggers))
    for trigger in triggers:
        assert payloads(recorder, trigger.name) == expected(world, trigger.every)
    assert (world.opens, world.given) == ([None], 4)


async def test_a_stream_longer_than_the_buffer_is_still_read_once(world: World) -> None:
    async with driver(4) as drive, anyio.create_task_group() as tasks:
        for index in range(50):
            tasks.start_soon(drive.keep, Placed(f"w{index}"))
        await settle()
        world.add(40)
        world.close()
    assert drive.committed == {f"w{index}": expected(world) for index in range(50)}
    assert (world.opens, world.given) == ([None], 40)


async def test_who_is_further_is_not_given_again_what_the_others_need(world: World) -> None:
    async with driver() as drive:
        world.add(5)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drive.attempt, Placed("further"))
            await until(lambda: drive.committed.get("further") == expected(world))
            tasks.cancel_scope.cancel()
        world.add(2)
        world.close()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drive.attempt, Placed("further"))
            tasks.start_soon(drive.attempt, Placed("new"))
        assert drive.committed == {"further": expected(world), "new": expected(world)}
        assert world.opens == [None, None]


async def test_other_keys_and_other_classes_share_nothing(store: Store, world: World) -> None:
    world.add(2)
    world.close()

    class Other(Numbers):
        pass

    triggers = [Numbers("a"), Other("b"), Numbers("c", bucket="another"), Placed("d")]
    recorder = await run_to_the_end(store, *assets_of(*triggers))
    assert {trigger.name: payloads(recorder, trigger.name) for trigger in triggers} == {name: [1, 2] for name in "abcd"}
    assert len(world.opens) == 4


async def test_a_slow_subscriber_delays_nobody_loses_nothing_and_rejoins(store: Store, world: World) -> None:
    world.hold("slow")
    recorder = Recorder()
    triggers = [Placed("fast"), Placed("faster"), Placed("slow")]
    async with anyio.create_task_group() as tasks:
        triggerer = Triggerer(store, assets_of(*triggers), on_event=recorder)
        tasks.start_soon(triggerer.run)
        world.add(1)
        await until(lambda: len(recorder.events) == 2 and world.waiting == {"slow"})
        world.add(99)
        for name in ("fast", "faster"):
            await until(lambda name=name: payloads(recorder, name) == expected(world))  # type: ignore[misc]
        assert payloads(recorder, "slow") == []
        assert world.opens == [None]
        world.release("slow")
        await until(lambda: payloads(recorder, "slow") == expected(world))
        # It took a source of its own after what it had last been given, and left it.
        assert len(world.opens) == 2
        assert world.opens[1] >= 1
        world.add(1)
        for trigger in triggers:
            await until(lambda name=trigger.name: payloads(recorder, name) == expected(world))  # type: ignore[misc]
        await until(lambda: world.open_now == 1)
        assert len(world.opens) == 2
        triggerer.stop()


async def test_a_slow_subscriber_without_positions_begins_at_its_watermark(store: Store, world: World) -> None:
    world.hold("slow")
    recorder = Recorder()
    async with anyio.create_task_group() as tasks:
        triggerer = Triggerer(store, assets_of(Numbers("fast"), Numbers("slow")), on_event=recorder)
        tasks.start_soon(triggerer.run)
        world.add(1)
        await until(lambda: len(recorder.events) == 1 and world.waiting == {"slow"})
        world.add(29)
        await until(lambda: payloads(recorder, "fast") == expected(world))
        world.release("slow")
        await until(lambda: payloads(recorder, "slow") == expected(world))
        records = {record.asset: record for record in await store.alist_watchers()}
        assert "shared_stream_buffer" in str(records["slow"].last_error)
        assert (records["slow"].restarts, records["fast"].restarts) == (1, 0)
        assert len(world.opens) == 2
        triggerer.stop()


async def test_snapshots_are_skipped_to_the_latest(world: World) -> None:
    async with driver() as drive, anyio.create_task_group() as tasks:
        world.add(1)
        world.hold("slow")
        tasks.start_soon(drive.keep, Snapshots("fast"))
        tasks.start_soon(drive.keep, Snapshots("slow"))
        await until(lambda: drive.committed.get("fast") == [1])
        world.add(9)
        await until(lambda: drive.committed.get("fast") == expected(world))
        world.release("slow")
        await until(lambda: drive.committed.get("slow") == [1, 10])
        tasks.start_soon(drive.keep, Snapshots("late"))
        await until(lambda: drive.committed.get("late") == [10])
        assert len(world.opens) == 1
        tasks.cancel_scope.cancel()


async def late(drive: Driver, world: World, kind: type[Numbers], before: int) -> None:
    async with anyio.create_task_group() as tasks:
        world.add(before)
        tasks.start_soon(drive.keep, kind("early"))
        await until(lambda: drive.committed.get("early") == expected(world))
        tasks.start_soon(drive.keep, kind("late"))
        await until(lambda: drive.committed.get("late") == expected(world))
        world.add(3)
        await until(lambda: drive.committed == {"early": expected(world), "late": expected(world)})
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("kind", "before", "opens"),
    [
        (Placed, 4, 1),  # all of it is kept
        (Placed, 20, 2),  # a source of its own until it has caught up
        (Numbers, 4, 1),
        (Numbers, 20, 2),  # a source opened anew
    ],
)
async def test_a_late_joiner_gets_everything(kind: type[Numbers], before: int, opens: int, world: World) -> None:
    async with driver(4) as drive:
        await late(drive, world, kind, before)
        assert len(world.opens) == opens


async def test_without_positions_those_that_come_late_together_share_a_source(world: World) -> None:
    # As when another machine's watchers are taken over.
    names = [f"late{index}" for index in range(25)]
    async with driver(40) as drive, anyio.create_task_group() as tasks:
        world.add(60)
        tasks.start_soon(drive.keep, Numbers("early"))
        await until(lambda: drive.committed.get("early") == expected(world))
        for name in names:
            tasks.start_soon(drive.keep, Numbers(name))
        for count in (0, 3):
            world.add(count)
            await until(lambda: drive.committed == {name: expected(world) for name in ["early", *names]})
        assert (world.opens, world.open_now) == ([None, None], 2)
        # Each source is told of by its own error, and the other goes on.
        world.fail_at = {64}
        world.add(2)
        await until(lambda: drive.committed == {name: expected(world) for name in ["early", *names]})
        assert len(drive.errors) in {1, 25}
        tasks.cancel_scope.cancel()


async def test_without_positions_a_source_is_closed_when_those_that_read_it_have_left(world: World) -> None:
    async with driver(4) as drive, anyio.create_task_group() as tasks:
        world.add(20)
        async with anyio.create_task_group() as early:
            early.start_soon(drive.keep, Numbers("early"))
            await until(lambda: drive.committed.get("early") == expected(world))
            tasks.start_soon(drive.keep, Numbers("late"))
            await until(lambda: drive.committed.get("late") == expected(world))
            assert world.open_now == 2
            early.cancel_scope.cancel()
        await until(lambda: world.open_now == 1)
        world.add(1)
        await until(lambda: drive.committed["late"] == expected(world))
        tasks.cancel_scope.cancel()


async def test_a_late_joiner_that_is_up_to_date_opens_nothing(world: World) -> None:
    async with driver(2) as drive, anyio.create_task_group() as tasks:
        world.add(20)
        for name in ("early", "late"):
            tasks.start_soon(drive.keep, Placed(name))
        await until(lambda: drive.committed == {"early": expected(world), "late": expected(world)})
        opens = len(world.opens)
        fail = OSError("once")

        async def raise_once(name: str, number: int) -> None:
            if name == "late" and fail not in drive.errors.get("late", []):
                raise fail

        world.on_work = raise_once
        world.add(1)
        await until(lambda: drive.committed == {"early": expected(world), "late": expected(world)})
        assert drive.errors == {"late": [fail]}
        assert len(world.opens) == opens
        tasks.cancel_scope.cancel()


async def test_the_source_is_closed_when_the_last_one_leaves_and_opened_for_the_next(world: World) -> None:
    async with driver() as drive:
        world.add(2)
        async with anyio.create_task_group() as first, anyio.create_task_group() as second:
            first.start_soon(drive.attempt, Numbers("a"))
            second.start_soon(drive.attempt, Numbers("b"))
            await until(lambda: drive.committed == {"a": [1, 2], "b": [1, 2]})
            first.cancel_scope.cancel()
            await settle()
            assert world.open_now == 1
            second.cancel_scope.cancel()
        await until(lambda: world.open_now == 0)
        world.add(1)
        world.close()
        await drive.attempt(Numbers("a"))
        assert drive.committed["a"] == [1, 2, 3]
        assert world.opens == [None, None]


@pytest.mark.parametrize("kind", [Numbers, Placed])
async def test_a_source_that_raises_is_opened_again_and_nothing_is_lost(
    kind: type[Numbers], store: Store, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.fail_at = {1, 3, 17}
    world.add(20)
    world.close()
    triggers = [kind(f"w{index}", every=1 + index % 3) for index in range(5)]
    recorder = await run_to_the_end(store, *assets_of(*triggers))
    for trigger in triggers:
        assert payloads(recorder, trigger.name) == expected(world, trigger.every)
    records = await store.alist_watchers()
    assert {record.state for record in records} == {WatcherState.DONE}
    assert all("the source failed at" in str(record.last_error) or record.restarts for record in records)
    assert f"the shared stream of {kind.__name__} failed: OSError: the source failed at 1" in caplog.text


async def test_a_source_that_keeps_raising_is_not_opened_by_each_subscriber(world: World) -> None:
    async with driver() as drive, anyio.create_task_group() as tasks:
        world.add(1)
        world.broken = OSError("away")
        names = [f"w{index}" for index in range(50)]
        for name in names:
            tasks.start_soon(drive.keep, Numbers(name))
        await until(lambda: len(world.opens) >= 5)
        # Each opening fails all who wait for it at once.
        assert min(len(drive.errors[name]) for name in names) >= len(world.opens) - 2
        assert all(isinstance(error.__cause__, OSError) for error in drive.errors["w0"])
        world.broken = None
        await until(lambda: drive.committed == {name: [1] for name in names})
        tasks.cancel_scope.cancel()


class Impatient(Placed):
    """Gives up waiting again and again."""

    async def filter_shared_stream(self, stream: AsyncIterator[int]) -> AsyncIterator[TriggerEvent]:
        while True:
            number = 0
            try:
                with anyio.move_on_after(0):
                    number = await anext(stream)
            except StopAsyncIteration:
                return
            if not number:
                await anyio.lowlevel.checkpoint()
                continue
            await self.world.work(self.name, number)
            yield TriggerEvent(number, checkpoint={f"{self.name}/watermark": number})


async def test_a_source_that_raised_is_not_opened_before_the_backoff(world: World) -> None:
    async with driver(restart_delay=3600.0) as drive, anyio.create_task_group() as tasks:
        world.add(1)
        world.broken = OSError("away")
        for name in ("a", "b"):
            tasks.start_soon(drive.keep, Numbers(name))
        await until(lambda: len(drive.errors) == 2)
        world.broken = None
        await settle(500)
        assert len(world.opens) == 1
        tasks.cancel_scope.cancel()


async def test_a_filter_may_give_up_waiting(world: World) -> None:
    async with driver(1) as drive, anyio.create_task_group() as tasks:
        names = ["patient", "impatient", "other"]
        world.hold("impatient")
        tasks.start_soon(drive.keep, Placed("patient"))
        tasks.start_soon(drive.keep, Impatient("impatient", bucket="bucket"))
        tasks.start_soon(drive.keep, Impatient("other"))
        world.add(5)
        await until(lambda: drive.committed.get("other") == expected(world))
        world.release("impatient")
        await until(lambda: drive.committed.get("impatient") == expected(world))
        await settle()
        world.add(5)
        await until(lambda: drive.committed == {name: expected(world) for name in names})
        assert drive.errors == {}
        tasks.cancel_scope.cancel()


async def test_without_positions_to_give_up_waiting_for_a_source_of_ones_own_begins_anew(world: World) -> None:
    world.add(3)
    trigger = Numbers("alone")
    async with driver() as drive:
        claimed = await drive.store.aclaim_watcher(drive.asset, "alone", owner="test")
        trigger.bind(drive.asset, claimed.asset_state)
        reader = Reader(source_of(trigger, {}))
        assert [await reader.next() for _ in range(3)] == [1, 2, 3]
        with anyio.move_on_after(0):
            await reader.next()
        with pytest.raises(SharedStreamError, match="shared_stream_position"):
            await reader.next()


async def test_a_drain_closes_the_source(store: Store, world: World) -> None:
    recorder = Recorder()
    async with anyio.create_task_group() as tasks:
        triggerer = Triggerer(store, assets_of(Numbers("a"), Placed("b")), on_event=recorder)
        tasks.start_soon(triggerer.run)
        world.add(1)
        await until(lambda: len(recorder.events) == 2)
        assert world.open_now == 2
        triggerer.stop()
    assert world.open_now == 0
