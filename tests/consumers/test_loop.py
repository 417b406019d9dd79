"""What the loop `async for event in store.events(asset, consumer=...)` does, step by step."""

from __future__ import annotations

import asyncio
import gc
import logging
from contextlib import aclosing
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest

from asyncstore import (
    Asset,
    AssetNotFoundError,
    AssetScope,
    ManualClock,
    MemoryBackend,
    MetastoreBackend,
    Store,
    StoreBusyError,
    StoreError,
    UnsupportedOperationError,
    connect,
)
from asyncstore.consumers import reading
from tests.conformance.backends import MinimalBackend

from .support import ORDERS, SETTINGS, cancelled_at, facts, loop, record, state, until

pytestmark = pytest.mark.anyio


async def test_an_event_is_done_when_the_next_one_is_asked_for(store: Store) -> None:
    await record(store, 2)
    async with aclosing(loop(store, prefetch=1)) as events:
        assert (await anext(events)).payload == 0
        assert await state(store) == (1, 0, 0)
        assert (await anext(events)).payload == 1
        assert await state(store) == (1, 0, 0)
    assert await state(store) == (0, 1, 0)


async def test_more_is_taken_ahead_while_it_goes_quickly_and_given_back_in_the_end(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_QUICK", 1000.0)  # however busy the machine is
    await record(store, 40)
    async with aclosing(loop(store, prefetch=8)) as events:
        most = 0
        for _ in range(20):
            await anext(events)
            most = max(most, (await facts(store)).in_hand)
        assert most == 8
        held = (await facts(store)).in_hand
    assert await state(store) == (0, held, 0)
    async with aclosing(loop(store)) as events:
        assert [(await anext(events)).payload for _ in range(21)] == list(range(19, 40))


async def test_a_slow_reader_takes_one_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_QUICK", 0.0)
    await record(store, 20)
    async with aclosing(loop(store, prefetch=8)) as events:
        for _ in range(10):
            await anext(events)
            assert (await facts(store)).in_hand == 1


async def test_what_was_taken_ahead_does_not_wait_for_a_slow_event(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_QUICK", 1000.0)
    await record(store, 20)
    async with aclosing(loop(store, prefetch=8, heartbeat=0.02)) as events, aclosing(loop(store)) as other:
        slow = [await anext(events) for _ in range(8)][-1]
        assert (await facts(store)).in_hand == 8

        async def shared() -> bool:
            return (await facts(store)).in_hand == 1

        await until(shared)
        assert (await anext(other)).payload == slow.payload + 1
        await slow.adone()
        assert (await anext(events)).payload == slow.payload + 2


async def test_a_loop_that_ends_by_break_gives_back_what_it_did_not_finish(store: Store) -> None:
    await record(store, 3)
    async for event in store.events(ORDERS, consumer="loader"):
        if event.payload == 1:
            break
    gc.collect()
    with anyio.fail_after(10):
        while (await facts(store)).readers:
            await anyio.lowlevel.checkpoint()
    async for event in store.events(ORDERS, consumer="loader"):
        assert (event.payload, event.attempt) == (1, 1)
        break


async def test_closing_the_store_gives_back_what_is_in_hand(clock: ManualClock) -> None:
    async with MemoryBackend(clock=clock) as backend:
        async with connect(backend=backend, settings=SETTINGS) as store:
            await record(store, 1)
            events = loop(store)
            await anext(events)
        async with connect(backend=backend, settings=SETTINGS) as store:
            assert await state(store) == (0, 1, 0)
            assert (await facts(store)).readers == 0
        await events.aclose()


async def test_cancelled_at_every_await_it_holds_nothing_and_loses_nothing(store: Store) -> None:
    await record(store, 3)
    seen: list[Any] = []

    async def read() -> None:
        async with store.events(ORDERS, consumer="loader") as events:
            async for event in events:
                seen.append(event.payload)
                if event.payload == 2:
                    return

    number = 1
    with anyio.fail_after(60):
        while await cancelled_at(number, read()):
            for found in await store.alist_consumers():
                assert found.in_hand == 0, number
                await store.events(ORDERS, consumer="loader").areplay(0)
            number += 1
    assert number > (3 if isinstance(store.backend, MetastoreBackend) else 0)
    assert seen[-3:] == [0, 1, 2]


@pytest.mark.parametrize("closed", [False, True])
async def test_a_second_loop_in_the_block_gets_what_the_first_one_left(store: Store, closed: bool) -> None:
    await record(store, 3)
    async with store.events(ORDERS, consumer="loader") as consumer:
        first = aiter(consumer)
        event = await anext(first)
        if closed:
            await first.aclose()
        else:
            del first
        async for again in consumer:
            assert (again.payload, again.attempt) == (event.payload, 1)
            break
        other = aiter(consumer)  # while nobody left this one, it is another reader
        assert [(await anext(each)).payload for each in (other, aiter(consumer))] == [0, 1]


async def test_what_was_taken_with_an_event_that_was_lost_is_not_handled_here(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_QUICK", 1000.0)
    await record(store, 12)
    async with aclosing(loop(store, prefetch=4)) as events, aclosing(loop(store, prefetch=1)) as other:
        late = [await anext(events) for _ in range(4)][-1]  # it has three behind it
        clock.advance(timedelta(seconds=61))
        assert [(await anext(other)).payload for _ in range(3)] == [3, 4, 5]
        assert not await late.adone()
        assert (await anext(events)).payload == 6
    async with aclosing(loop(store, "replayed", prefetch=4)) as events:
        for _ in range(4):
            await anext(events)
        await store.events(ORDERS, consumer="replayed").areplay(0)
        assert [(await anext(events)).payload for _ in range(3)] == [0, 1, 2]


async def test_a_reader_that_was_closed_while_it_joined_leaves_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await record(store, 1)
    joining, go = asyncio.Event(), asyncio.Event()
    join = type(store.backend.deliveries).ajoin

    async def slowly(self: Any, *given: Any, **more: Any) -> Any:
        member = await join(self, *given, **more)
        joining.set()
        await go.wait()
        return member

    monkeypatch.setattr(type(store.backend.deliveries), "ajoin", slowly)
    async with store.events(ORDERS, consumer="loader") as consumer:
        waiting = asyncio.ensure_future(anext(aiter(consumer)))
        await joining.wait()
    go.set()
    with pytest.raises(StoreError, match="was closed"):
        await waiting
    assert (await facts(store)).readers == 0


async def test_a_lease_that_ran_out_is_told_and_the_reader_joins_anew(
    store: Store, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    await record(store, 2)
    async with aclosing(loop(store, lease=60, heartbeat=30)) as events, aclosing(loop(store)) as other:
        late = await anext(events)
        clock.advance(timedelta(seconds=61))
        again = await anext(other)
        assert (late.payload, again.payload) == (0, 0)
        with caplog.at_level(logging.WARNING):
            assert (await anext(events)).payload == 1
        assert "may be handled again" in caplog.text
        assert "joins anew" in caplog.text
        assert (await facts(store)).readers == 2


async def test_one_heartbeat_renews_all_that_a_reader_has(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await record(store, 30)
    deliveries = store.backend.deliveries
    beats = 0
    renew = type(deliveries).arenew

    async def counted(self: Any, member: Any, **options: Any) -> bool:
        nonlocal beats
        alive = await renew(self, member, **options)
        beats += 1
        if beats == 2:
            raise StoreBusyError("busy")
        return alive

    monkeypatch.setattr(type(deliveries), "arenew", counted)
    async with aclosing(loop(store, lease=60, heartbeat=0.01)) as events, aclosing(loop(store)) as other:
        first = await anext(events)
        assert (await anext(other)).payload == 1
        for _ in range(3):
            clock.advance(timedelta(seconds=59))
            before = beats
            with anyio.fail_after(10):
                await until(lambda: beats >= before + 2)  # noqa: B023
        assert (await facts(store)).in_hand >= 1
        await first.adone()  # it is still in its hand


async def test_a_heartbeat_that_finds_the_lease_lost_drops_what_was_taken_ahead(
    store: Store, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    await record(store, 30)
    async with aclosing(loop(store, lease=60, heartbeat=0.01)) as events:
        held = await anext(events)
        for _ in range(11):
            held = await anext(events)
        clock.advance(timedelta(seconds=61))
        deliveries = store.backend.deliveries
        scope = AssetScope(name="orders")
        async with aclosing(loop(store, prefetch=1)) as other:
            assert (await anext(other)).payload == 11
            with anyio.fail_after(10):
                await until(lambda: "the lease ran out" in caplog.text)
            with pytest.raises(StoreError):
                async with held.transaction():
                    pass
            assert (await anext(events)).payload == 12
        assert await deliveries.alist_failed(scope, "loader") == []


async def test_events_of_this_process_are_heard_of(store: Store) -> None:
    await record(store, 1)
    async with aclosing(loop(store, poll_interval=3600)) as events:
        await anext(events)
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(record, store, 1)
                assert (await anext(events)).payload == 0


async def test_sync_twins_settle_an_event(store: Store) -> None:
    await record(store, 2)
    async with aclosing(loop(store)) as events:
        event = await anext(events)
        await asyncio.to_thread(event.fail, "in a thread", delay=timedelta(hours=1))
        event = await anext(events)
        await asyncio.to_thread(event.done)
        assert await state(store) == (0, 1, 0)


async def test_no_event_since_a_time_is_missed_where_the_clock_was_set_back(store: Store, clock: ManualClock) -> None:
    await record(store, 1)
    clock.advance(timedelta(hours=1))
    (later,) = await record(store, 1)
    clock.advance(timedelta(hours=-2))
    (last,) = await record(store, 1)
    async with aclosing(aiter(store.events(ORDERS, consumer="late", start=later.created_at))) as events:
        assert [(await anext(events)).id for _ in range(2)] == [later.id, last.id]
        assert await store.events(ORDERS, consumer="late").areplay(later.created_at) == 2
        assert await store.events(ORDERS, consumer="late").areplay(later.created_at + timedelta(days=1)) == 0
        assert (await anext(events)).id == later.id


async def test_a_start_that_is_not_heeded_is_told(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    moment = datetime(2026, 1, 1, 12, tzinfo=UTC)
    same = moment.astimezone(timezone(timedelta(hours=5)))
    await record(store, 1)
    for first, others in ((None, (None, "beginning")), ("end", (None, "end")), (1, (1,)), (moment, (moment, same))):
        name = f"from {first}"
        for start in (first, *others, 7):
            assert "start=" not in caplog.text
            async with store.events(ORDERS, consumer=name, start=cast("Any", start)) as consumer:
                waiting = asyncio.ensure_future(anext(aiter(consumer)))
                await until(partial(reads, store, name))
                await record(store, 1)  # for those that begin behind all
                await waiting
        assert "start=7" in caplog.text
        assert "areplay" in caplog.text
        caplog.clear()


async def reads(store: Store, name: str) -> bool:
    return any(each.name == name and each.readers for each in await store.alist_consumers())


async def test_an_asset_that_is_new_or_deleted(store: Store) -> None:
    new = Asset("new")
    async with aclosing(cast("Any", store.events(new, consumer="early").__aiter__())) as events:
        async with anyio.create_task_group() as group:
            group.start_soon(record, store, 1, new)
            with anyio.fail_after(10):
                assert (await anext(events)).asset == "new"
        await store.adelete_asset(new)
        with pytest.raises(StoreError, match="no consumer 'early'"):
            with anyio.fail_after(10):
                await anext(events)
    with pytest.raises(AssetNotFoundError):
        await anext(cast("Any", store.events(AssetScope(name="gone"), consumer="x").__aiter__()))


def test_wrong_arguments_are_said() -> None:
    with connect(backend=MemoryBackend()) as store:
        wrong: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
            (ORDERS, {"consumer": ""}, ValueError, "1 to 512 bytes"),
            (ORDERS, {"consumer": 5}, TypeError, "must be a string"),
            ("orders", {"consumer": "a"}, TypeError, "Asset or AssetScope"),
            (None, {"consumer": "a"}, ValueError, "one asset"),
            (ORDERS, {"consumer": "a", "after": 3}, ValueError, "start="),
            (ORDERS, {"consumer": "a", "start": "middle"}, TypeError, "'beginning', 'end'"),
            (ORDERS, {"consumer": "a", "start": -1}, ValueError, "never negative"),
            (ORDERS, {"consumer": "a", "start": datetime(2026, 1, 1)}, ValueError, "time zone"),
        ]
        for asset, arguments, error, says in wrong:
            with pytest.raises(error, match=says):
                store.events(asset, **arguments)
    with connect(backend=MinimalBackend()) as store:
        with pytest.raises(UnsupportedOperationError, match=r"Capability\.CONSUMERS"):
            store.events(ORDERS, consumer="a")
        assert store.prune_events().skipped == "MinimalBackend does not deliver events to consumers, and prunes none"
