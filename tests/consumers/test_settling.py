"""What becomes of an event in the end: done, failed, set aside or skipped, and who is to blame."""

from __future__ import annotations

from contextlib import aclosing
from datetime import timedelta
from typing import Any, cast

import pytest

from asyncstore import Deliveries, ManualClock, OutcomeUnknownError, Store, StoreBusyError

from .support import ORDERS, loop, options, record, state

pytestmark = pytest.mark.anyio


async def test_failures_are_counted_and_set_aside_with_their_traceback(store: Store, clock: ManualClock) -> None:
    await record(store, 1)
    attempts: list[int] = []
    async with aclosing(loop(store, max_attempts=3, retry_delay=10, retry_delay_max=30)) as events:
        for number in range(3):
            event = await anext(events)
            attempts.append(event.attempt)
            try:
                raise ZeroDivisionError(f"attempt {number}")
            except ZeroDivisionError as error:
                await event.afail(error)
            await event.afail("once is enough")
            assert await state(store) == ((0, 1, 0) if number < 2 else (0, 0, 1))
            clock.advance(timedelta(seconds=20))
    assert attempts == [1, 2, 3]
    (failed,) = await store.events(ORDERS, consumer="loader").alist_failed()
    assert failed.attempts == 3
    assert "ZeroDivisionError: attempt 2" in failed.error
    assert "test_settling.py" in failed.error


async def test_delays_grow_with_jitter_up_to_the_limit(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await record(store, 1)
    delays: list[float] = []
    fail = type(store.backend.deliveries).afail

    async def spy(self: Deliveries, delivery: Any, error: str, *, delay: timedelta | None) -> None:
        assert delay is not None
        delays.append(delay.total_seconds())
        await fail(self, delivery, error, delay=delay)

    monkeypatch.setattr(type(store.backend.deliveries), "afail", spy)
    async with aclosing(loop(store, max_attempts=0, retry_delay=1, retry_delay_max=10)) as events:
        for _ in range(6):
            await (await anext(events)).afail("no")
            clock.advance(timedelta(seconds=11))
        await (await anext(events)).afail("no", delay=timedelta(0))
        event = await anext(events)
        for wrong, error in ((timedelta(-1), ValueError), (timedelta.max, ValueError), (3, TypeError)):
            with pytest.raises(error, match="delay must be"):
                await event.afail("no", delay=cast("Any", wrong))
        await event.afail("no", delay=timedelta(hours=1))
    for delay, most in zip(delays, (1, 2, 4, 8, 10, 10, 0, 7200), strict=True):
        assert most / 2 <= delay <= most


async def test_what_failed_too_often_may_be_skipped(store: Store) -> None:
    await record(store, 2)
    async with aclosing(loop(store, max_attempts=1, on_exhausted="skip")) as events:
        await (await anext(events)).afail("no")
        assert (await anext(events)).payload == 1
    assert await state(store) == (0, 1, 0)


async def test_an_error_of_the_store_ends_the_loop_and_nothing_is_lost(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await record(store, 2)

    async def busy(*_: object, **__: object) -> None:
        raise StoreBusyError("busy")

    events = loop(store)
    await anext(events)
    with monkeypatch.context() as patch:
        patch.setattr(type(store.backend.deliveries), "adone", busy)
        with pytest.raises(StoreBusyError):
            await anext(events)
    assert await state(store) == (0, 1, 0)
    async with aclosing(loop(store)) as again:
        assert (await anext(again)).payload == 0


async def test_an_error_of_the_store_is_no_failure_of_the_event(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await record(store, 1)

    async def busy(*_: object, **__: object) -> None:
        raise StoreBusyError("busy")

    async def read() -> None:
        async with store.events(ORDERS, consumer="loader", settings=options(max_attempts=1)) as events:
            async for _ in events:
                monkeypatch.setattr(type(store.backend.deliveries), "adone", busy)

    with pytest.raises(StoreBusyError):
        await read()
    assert await state(store) == (0, 1, 0)


async def test_a_failure_of_which_nobody_knows_is_counted_once(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await record(store, 1)
    fail = type(store.backend.deliveries).afail
    calls = 0

    async def unsure(self: Any, *given: Any, **more: Any) -> None:
        nonlocal calls
        calls += 1
        await fail(self, *given, **more)
        if calls == 1:
            raise OutcomeUnknownError("the answer was lost")

    monkeypatch.setattr(type(store.backend.deliveries), "afail", unsure)
    async with aclosing(loop(store)) as events:
        await (await anext(events)).afail("no")
        clock.advance(timedelta(seconds=1))
        event = await anext(events)
        assert (calls, event.attempt) == (2, 2)
        assert await event.adone()


async def test_only_the_end_of_a_long_traceback_is_kept(store: Store) -> None:
    await record(store, 1)
    async with aclosing(loop(store, max_attempts=1)) as events:
        await (await anext(events)).afail("x" * 1_000_000 + "the end")
    (failed,) = await store.events(ORDERS, consumer="loader").alist_failed()
    assert len(failed.error) < 100_000
    assert failed.error.endswith("the end")


async def test_operators_give_any_numbers(store: Store) -> None:
    await record(store, 1)
    consumer = store.events(ORDERS, consumer="loader")
    async with aclosing(loop(store, max_attempts=1)) as events:
        event = await anext(events)
        await event.afail("no")
    assert await consumer.aretry([-1, 0, 2**70]) == 0
    assert await consumer.aretry([]) == 0
    assert await consumer.alist_failed(after=2**70, limit=2**70) == []
    assert len(await consumer.alist_failed(limit=2**70)) == 1
    for wrong in (consumer.aretry(cast("Any", ["1"])), consumer.alist_failed(after=cast("Any", 1.5))):
        with pytest.raises(TypeError, match="must be an int"):
            await wrong
    with pytest.raises(ValueError, match="after must be 0 or more"):
        await consumer.alist_failed(after=-1)
    assert await consumer.aretry([event.id]) == 1
