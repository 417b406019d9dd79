"""Contract of consumers: each event is in one hand at a time, until it is done."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from ..abc import Capability
from ..consumers.abc import Deliveries
from ..consumers.records import Delivery, Member, Start, Taking
from ..errors import AssetNotFoundError, ConsumerNotFoundError, LeaseLostError
from ..records import Event
from ..scopes import Asset, AssetScope
from .harness import ConformanceBase, Harness, awaited, requires

__all__ = ["LEASE", "ORDERS", "OTHER", "ConsumerConformance", "join", "payloads", "record", "taking"]

ORDERS = Asset("orders", uri="s3://warehouse/orders/")
OTHER = Asset("other")
LEASE = timedelta(minutes=1)
#: Seconds after which an event counts as missed.
PATIENCE = 10


async def record(harness: Harness, count: int, asset: Asset = ORDERS, key: str | None = None) -> list[Event]:
    """Record events with the payloads from 0 on, and keys that begin with `key`."""
    watcher = await harness.call(harness.store.aclaim_watcher, asset, "watcher", owner="me")
    commits = [await harness.call(watcher.prepare, number, key and f"{key}{number}", None) for number in range(count)]
    return [(await harness.call(watcher.acommit, commit))[0] for commit in commits]


async def join(harness: Harness, name: str = "loader", start: Start = "beginning") -> tuple[Deliveries, Member]:
    """Add a reader to a consumer of `ORDERS`."""
    scope = await harness.asset_scope()
    deliveries = harness.backend.deliveries
    return deliveries, await harness.call(deliveries.ajoin, scope, name, start=start, owner="me", lease=LEASE)


def taking(limit: int = 10, max_attempts: int = 0, *, skip: bool = False) -> Taking:
    """Say how events are taken in tests."""
    return Taking(LEASE, limit, max_attempts, skip)


def payloads(taken: Sequence[Delivery]) -> list[Any]:
    """Give the payloads of what was taken."""
    return [delivery.event.payload for delivery in taken]


class ConsumerConformance(ConformanceBase):
    """Hold a backend to consumers, leases, failures, replay and pruning."""

    @awaited
    @requires(Capability.CONSUMERS)
    async def test_readers_divide_the_events(self, harness: Harness) -> None:
        """Hand each event to one reader of a consumer, in order, and all of them to another consumer."""
        events = await record(harness, 5)
        await record(harness, 2, OTHER)
        deliveries, one = await join(harness)
        _, two = await join(harness)
        assert await deliveries.ahas_work(one)
        first = await deliveries.atake(one, taking(2))
        second = await deliveries.atake(two, taking())
        assert [each.event for each in (*first, *second)] == events
        assert {each.attempt for each in (*first, *second)} == {1}
        assert not await deliveries.ahas_work(one)
        assert await deliveries.atake(one, taking()) == []
        _, elsewhere = await join(harness, "another")
        assert payloads(await deliveries.atake(elsewhere, taking())) == [0, 1, 2, 3, 4]

    @awaited
    @requires(Capability.CONSUMERS)
    async def test_done_is_done_once(self, harness: Harness) -> None:
        """Deliver no event again that is done, and have none done twice."""
        await record(harness, 2)
        deliveries, member = await join(harness)
        first, second = await deliveries.atake(member, taking())
        await deliveries.adone(first)
        with pytest.raises(LeaseLostError, match=f"event {first.event.id}"):
            await deliveries.adone(first)
        await deliveries.aleave(member)
        with pytest.raises(LeaseLostError):
            await deliveries.adone(second)
        _, again = await join(harness)
        assert payloads(await deliveries.atake(again, taking())) == [1]
        await deliveries.aleave(member)

    @awaited
    @requires(Capability.CONSUMERS)
    async def test_a_lease_runs_out(self, harness: Harness) -> None:
        """Deliver what a silent reader held to others, one by one, and refuse that reader everything."""
        await record(harness, 3)
        deliveries, silent = await join(harness)
        held = await deliveries.atake(silent, taking())
        await harness.let_pass(LEASE - harness.tick)
        _, other = await join(harness)
        assert not await deliveries.ahas_work(other)
        assert await deliveries.atake(other, taking()) == []
        await harness.let_pass(harness.tick)
        assert await deliveries.ahas_work(other)
        for number in range(3):
            (taken,) = await deliveries.atake(other, taking())
            assert (taken.event.payload, taken.attempt) == (number, 1)
            await deliveries.adone(taken)
        for delivery in held:
            with pytest.raises(LeaseLostError):
                await deliveries.adone(delivery)
            with pytest.raises(LeaseLostError):
                await deliveries.afail(delivery, "late", delay=None)
        assert not await deliveries.arenew(silent, lease=LEASE)
        with pytest.raises(LeaseLostError, match="loader"):
            await deliveries.atake(silent, taking())
        assert (await deliveries.alist())[0].failed == 0

    @awaited
    @requires(Capability.CONSUMERS)
    async def test_a_lease_is_renewed(self, harness: Harness) -> None:
        """Keep all that a reader holds for as long as it renews its one lease."""
        await record(harness, 3)
        deliveries, alive = await join(harness)
        held = await deliveries.atake(alive, taking())
        for _ in range(3):
            await harness.let_pass(LEASE - harness.tick)
            assert await deliveries.arenew(alive, lease=LEASE)
        _, other = await join(harness)
        assert await deliveries.atake(other, taking()) == []
        for delivery in held:
            await deliveries.adone(delivery)

    @awaited
    @requires(Capability.CONSUMERS)
    async def test_failures_wait(self, harness: Harness) -> None:
        """Deliver an event that failed again, not before its time, and before newer ones."""
        await record(harness, 2)
        deliveries, member = await join(harness)
        (first,) = await deliveries.atake(member, taking(1))
        await deliveries.afail(first, "Traceback: \udcff\0", delay=timedelta(seconds=9))
        with pytest.raises(LeaseLostError):
            await deliveries.adone(first)
        await harness.let_pass(timedelta(seconds=9) - harness.tick)
        (second,) = await deliveries.atake(member, taking(1))
        assert second.event.payload == 1
        await harness.let_pass(harness.tick)
        (again,) = await deliveries.atake(member, taking())
        assert (again.event, again.attempt) == (first.event, 2)
        await deliveries.adone(again)
        await deliveries.adone(second)

    @requires(Capability.CONSUMERS)
    async def test_what_failed_for_good_is_set_aside(self, harness: Harness) -> None:
        """Keep an event that failed for good with its traceback, and deliver it again when told to."""
        events = await record(harness, 3)
        call, consumer = harness.call, harness.store.events(ORDERS, consumer="loader")
        deliveries, member = await join(harness)
        for delivery in await deliveries.atake(member, taking()):
            await deliveries.afail(delivery, f"Traceback {delivery.event.payload}", delay=None)
        assert not await deliveries.ahas_work(member)
        failed = await call(consumer.alist_failed)
        assert [(each.event, each.consumer, each.attempts, each.error, each.failed_at) for each in failed] == [
            (event, "loader", 1, f"Traceback {event.payload}", harness.now) for event in events
        ]
        assert await call(consumer.alist_failed, after=events[0].id, limit=1) == [failed[1]]
        assert await call(consumer.aretry, [events[1].id, 99_999]) == 1
        (again,) = await deliveries.atake(member, taking())
        assert (again.event, again.attempt) == (events[1], 1)
        assert await call(consumer.aretry) == 2
        assert await call(consumer.alist_failed) == []
        assert payloads(await deliveries.atake(member, taking())) == [0, 2]

    @awaited
    @requires(Capability.CONSUMERS)
    @pytest.mark.parametrize("skip", [False, True])
    async def test_an_event_that_ends_its_process_is_told_from_its_neighbours(
        self, harness: Harness, skip: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Count a crash only against an event that was alone in hand; after enough of them deliver it no more."""
        await record(harness, 2)
        how = taking(max_attempts=2, skip=skip)
        deliveries, member = await join(harness)
        assert len(await deliveries.atake(member, how)) == 2  # the first crash blames nobody
        for attempt in (1, 2):
            await harness.let_pass(LEASE)
            _, member = await join(harness)
            (taken,) = await deliveries.atake(member, how)
            assert (taken.event.payload, taken.attempt) == (0, attempt)
        await harness.let_pass(LEASE)
        _, member = await join(harness)
        (taken,) = await deliveries.atake(member, how)
        assert (taken.event.payload, taken.attempt) == (1, 1)
        scope = await harness.asset_scope()
        failed = await deliveries.alist_failed(scope, "loader")
        assert [(each.event.payload, each.attempts) for each in failed] == ([] if skip else [(0, 2)])
        assert all("lease ran out" in each.error for each in failed)
        assert f"is {'skipped' if skip else 'set aside'}" in caplog.text  # nobody else could say so

    @awaited
    @requires(Capability.CONSUMERS)
    async def test_what_is_given_back_was_never_handed_out(self, harness: Harness) -> None:
        """Deliver what is given back at once, without counting it."""
        events = await record(harness, 4)
        deliveries, member = await join(harness)
        held = await deliveries.atake(member, taking(3))
        await deliveries.agive_back(member, keep=[events[1].id])
        await deliveries.adone(held[1])
        with pytest.raises(LeaseLostError):
            await deliveries.adone(held[0])
        taken = await deliveries.atake(member, taking())
        assert [(each.event.payload, each.attempt) for each in taken] == [(0, 1), (2, 1), (3, 1)]

    @requires(Capability.CONSUMERS)
    async def test_replay(self, harness: Harness) -> None:
        """Deliver again every event from an id or a time on, whatever became of it, and skip none."""
        call, consumer = harness.call, harness.store.events(ORDERS, consumer="loader")
        events = await record(harness, 3)
        await harness.let_pass(timedelta(seconds=1))
        moment = harness.now
        events += await record(harness, 3)
        deliveries, member = await join(harness)
        held = await deliveries.atake(member, taking(5))
        await deliveries.adone(held[1])
        await deliveries.adone(held[3])
        await deliveries.afail(held[4], "failed", delay=None)
        assert await call(consumer.areplay, moment) == 2
        assert await call(consumer.areplay, events[5].id) == 0  # that would skip
        assert await call(consumer.areplay, moment) == 0
        assert await call(consumer.alist_failed) == []
        await deliveries.adone(held[0])
        again = await deliveries.atake(member, taking())
        assert [each.event for each in again] == events[3:]
        assert await call(consumer.areplay, 0) == 6
        for delivery in (held[2], again[0]):
            with pytest.raises(LeaseLostError):
                await deliveries.adone(delivery)
        assert [each.event for each in await deliveries.atake(member, taking())] == events
        for wrong, error in (
            (-1, ValueError),
            ("end", TypeError),
            (True, TypeError),
            (datetime(2026, 1, 1), ValueError),
        ):
            with pytest.raises(error):
                await call(consumer.areplay, wrong)  # type: ignore[arg-type]

    @awaited
    @requires(Capability.CONSUMERS)
    async def test_where_a_new_consumer_begins(self, harness: Harness) -> None:
        """Begin where it is said, the first time."""
        events = await record(harness, 2)
        await harness.let_pass(timedelta(seconds=1))
        moment = harness.now
        events += await record(harness, 2)
        starts: list[tuple[Start, int]] = [("beginning", 0), ("end", 4), (0, 0), (events[1].id, 1), (moment, 2)]
        starts += [(moment + timedelta(seconds=1), 4), (datetime(2000, 1, 1, tzinfo=UTC), 0)]
        deliveries, member = await join(harness)
        for start, first in starts:
            _, member = await join(harness, f"from {start}", start)
            _, same = await join(harness, f"from {start}", "end")
            assert (member.consumer_id, member.start) == (same.consumer_id, same.start)
            assert [each.event for each in await deliveries.atake(member, taking())] == events[first:], start
        (new,) = await record(harness, 1)
        (taken,) = await deliveries.atake(member, taking())
        assert taken.event == new

    @requires(Capability.CONSUMERS)
    async def test_consumers_are_listed_and_deleted(self, harness: Harness) -> None:
        """Tell what each consumer has before it; forget one that is deleted."""
        call, store = harness.call, harness.store
        events = await record(harness, 5)
        deliveries, member = await join(harness, "b")
        await join(harness, "a")
        held = await deliveries.atake(member, taking(4))
        await deliveries.adone(held[0])
        await deliveries.afail(held[1], "waits", delay=LEASE)
        await deliveries.afail(held[2], "aside", delay=None)
        first, other = await call(store.alist_consumers)
        assert (first.name, first.position, first.behind) == ("a", 0, 5)
        assert (other.asset, other.name, other.position, other.behind) == ("orders", "b", events[3].id, 1)
        assert (other.in_hand, other.waiting, other.failed, other.readers) == (1, 1, 1, 1)
        assert other.created_at == harness.now
        await call(store.events(ORDERS, consumer="b").adelete)
        assert [each.name for each in await call(store.alist_consumers)] == ["a"]
        for operation in (deliveries.ahas_work(member), deliveries.atake(member, taking())):
            with pytest.raises(ConsumerNotFoundError, match="'b'"):
                await operation
        assert not await deliveries.arenew(member, lease=LEASE)
        await deliveries.aleave(member)
        with pytest.raises(LeaseLostError):
            await deliveries.adone(held[3])

    @requires(Capability.CONSUMERS)
    async def test_what_is_unknown_is_said(self, harness: Harness) -> None:
        """Tell an unknown consumer from an unknown asset, and take the consumers of a deleted asset along."""
        call, store = harness.call, harness.store
        await record(harness, 1)
        deliveries, member = await join(harness)
        (held,) = await deliveries.atake(member, taking())
        for asset, name, error in (
            (ORDERS, "laoder", ConsumerNotFoundError),
            (Asset("odrers"), "loader", AssetNotFoundError),
        ):
            consumer = store.events(asset, consumer=name)
            for operation, arguments in (
                (consumer.areplay, (0,)),
                (consumer.alist_failed, ()),
                (consumer.aretry, ()),
                (consumer.adelete, ()),
            ):
                with pytest.raises(error, match=name if asset is ORDERS else "odrers"):
                    await call(operation, *arguments)  # type: ignore[arg-type]
        with pytest.raises(AssetNotFoundError):
            await deliveries.ajoin(AssetScope(name="odrers"), "loader", start="end", owner="me", lease=LEASE)
        await call(store.adelete_asset, ORDERS)
        assert await call(store.alist_consumers) == []
        with pytest.raises(ConsumerNotFoundError):
            await deliveries.atake(member, taking())
        with pytest.raises(LeaseLostError):
            await deliveries.adone(held)

    @awaited
    @requires(Capability.CONSUMERS)
    async def test_readers_take_at_once(self, harness: Harness) -> None:
        """Hand out no event twice, and none never, to readers that take at the same time."""
        await record(harness, 30)
        found: list[Any] = []

        async def read() -> None:
            deliveries, member = await join(harness)
            while taken := await deliveries.atake(member, taking(2)):
                for each in taken:
                    found.append(each.event.payload)
                    await deliveries.adone(each)

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(read)
        assert sorted(found, key=int) == list(range(30))

    @awaited
    @requires(Capability.CONSUMERS)
    async def test_a_loop_reads_and_waits(self, harness: Harness) -> None:
        """Yield the events in the log and those that come; each is done when the next one is asked for."""
        await record(harness, 2)
        seen: list[Any] = []
        with anyio.fail_after(PATIENCE):
            async with (
                harness.store.events(ORDERS, consumer="loader") as events,
                anyio.create_task_group() as group,
            ):
                async for event in events:
                    seen.append((event.payload, event.attempt))
                    (found,) = await harness.store.alist_consumers()
                    assert found.in_hand >= 1
                    if len(seen) == 2:
                        group.start_soon(record, harness, 2)
                    if len(seen) == 4:
                        break
        assert seen == [(0, 1), (1, 1), (0, 1), (1, 1)]
        (found,) = await harness.store.alist_consumers()
        assert (found.in_hand, found.waiting, found.behind, found.readers) == (0, 1, 0, 0)

    @awaited
    @requires(Capability.CONSUMERS)
    async def test_an_exception_in_the_block_is_a_failure(self, harness: Harness) -> None:
        """Count an exception that ends the block of a consumer against the event in hand, and no other."""
        await record(harness, 3)

        async def read() -> None:
            async with harness.store.events(ORDERS, consumer="loader") as events:
                async for event in events:
                    if event.payload == 1:
                        raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await read()
        await harness.let_pass(timedelta(seconds=1))
        _, member = await join(harness)
        taken = await harness.backend.deliveries.atake(member, taking())
        assert [(each.event.payload, each.attempt) for each in taken] == [(1, 2), (2, 1)]
