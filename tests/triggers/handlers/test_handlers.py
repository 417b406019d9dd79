from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from asyncstore import (
    Asset,
    DeliveredEvent,
    LeaseLostError,
    Settings,
    StateStoreSettings,
    Store,
    StoreUnavailableError,
    TaskContext,
    TriggererSettings,
    UnsupportedOperationError,
    connect,
)
from tests.conformance.backends import MinimalBackend
from tests.consumers.support import ORDERS, QUICK, record, until
from triggers import DiscoveryError, Handler, HandlerRunner, InvalidHandlerError, discover, load_assets, on_event

pytestmark = pytest.mark.anyio

SETTINGS = Settings(consumers=QUICK, triggerer=TriggererSettings(drain_timeout=2.0))
OTHER = Asset("other")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncGenerator[Store]:
    async with connect(f"sqlite+aiosqlite:///{tmp_path}/state.db", settings=SETTINGS) as store:
        yield store


@asynccontextmanager
async def running(store: Store, *handlers: Handler) -> AsyncGenerator[asyncio.Task[None]]:
    """Run handlers; drains in the end."""
    task = asyncio.create_task(HandlerRunner(store, handlers).run())
    try:
        yield task
    finally:
        task.cancel()
        async with asyncio.timeout(20):
            await asyncio.wait([task])


async def settled(store: Store) -> None:
    """Wait until every event is done or set aside."""
    async with asyncio.timeout(20):
        while True:
            found = await store.alist_consumers()
            if found and all(not (each.behind or each.in_hand or each.waiting) for each in found):
                return
            await asyncio.sleep(0.002)


async def test_a_function_handles_the_events_of_its_assets(store: Store) -> None:
    await record(store, 3)
    await record(store, 2, OTHER)
    seen: list[tuple[str, Any]] = []

    @on_event(ORDERS, OTHER)
    async def load(event: DeliveredEvent) -> None:
        seen.append((event.asset, event.payload))

    async with running(store, load):
        await settled(store)
    assert sorted(seen) == [("orders", 0), ("orders", 1), ("orders", 2), ("other", 0), ("other", 1)]
    assert [each.name for each in await store.alist_consumers()] == [load.name] * 2
    assert load.name.endswith("load")


async def test_a_retry_resumes_from_the_state_of_its_task(store: Store) -> None:
    await record(store, 2)
    found: list[tuple[Any, int, Any]] = []
    scopes: set[str] = set()

    @on_event(ORDERS, name="loader", outlets=[OTHER])
    async def load(event: DeliveredEvent, context: TaskContext) -> None:
        before = await context.task_state.aget("step", 0)
        found.append((event.payload, event.attempt, before))
        scopes.add(context.scope.ti_id)
        await context.task_state.aset("step", before + 1)
        await context.asset_state[ORDERS].aset("last", event.payload)
        await context.asset_state[OTHER].aset("last", event.payload)
        if event.payload == 0 and event.attempt < 3:
            raise ZeroDivisionError

    async with running(store, load):
        await settled(store)
    assert sorted(found) == [(0, 1, 0), (0, 2, 1), (0, 3, 2), (1, 1, 0)]
    assert len(scopes) == 2
    assert await store.asset_state[OTHER].aget("last") in {0, 1}
    entry = await store.asset_state[ORDERS].aget_entry("last")
    assert entry is not None
    assert (entry.updated_by or "").startswith("task:loader/event-")


async def test_failures_are_kept_and_siblings_are_untouched(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    await record(store, 2)
    seen: list[Any] = []

    @on_event(ORDERS, name="broken", max_attempts=2)
    async def broken(event: DeliveredEvent) -> None:
        raise ZeroDivisionError(f"event {event.payload}")

    @on_event(ORDERS, name="whole")
    async def whole(event: DeliveredEvent) -> None:
        seen.append(event.payload)

    async with running(store, broken, whole):
        await settled(store)
    assert seen == [0, 1]
    failed = await store.events(ORDERS, consumer="broken").alist_failed()
    assert [(each.event.payload, each.attempts) for each in failed] == [(0, 2), (1, 2)]
    assert all("ZeroDivisionError: event" in each.error for each in failed)
    assert "is delivered no more" in caplog.text


async def test_a_cancellation_that_nobody_asked_for_is_a_failure_of_its_event(store: Store) -> None:
    await record(store, 2)
    seen: list[Any] = []

    @on_event(ORDERS, name="stray", max_attempts=1)
    async def stray(event: DeliveredEvent) -> None:
        waiting = asyncio.ensure_future(asyncio.sleep(0))
        waiting.cancel()
        await waiting

    @on_event(ORDERS, name="whole")
    async def whole(event: DeliveredEvent) -> None:
        await until(lambda: aside == 2)
        seen.append(event.payload)

    aside = 0
    async with running(store, stray, whole) as task:
        while aside < 2:
            assert not task.done()
            await asyncio.sleep(0.002)
            if any(each.name == "stray" for each in await store.alist_consumers()):
                aside = len(await store.events(ORDERS, consumer="stray").alist_failed())
        await settled(store)
    assert seen == [0, 1]
    failed = await store.events(ORDERS, consumer="stray").alist_failed()
    assert all("CancelledError, though nobody cancelled it" in each.error for each in failed)


async def test_what_a_transaction_did_not_commit_is_handled_again(store: Store) -> None:
    await record(store, 1)
    attempts: list[int] = []

    @on_event(ORDERS, name="loader")
    async def load(event: DeliveredEvent, context: TaskContext) -> None:
        attempts.append(event.attempt)
        try:
            async with event.transaction() as session:
                await context.asset_state.aset("count", event.attempt, session=session)
                if event.attempt == 1:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            pass  # swallowed, and yet the event is not done

    async with running(store, load):
        await settled(store)
    assert attempts == [1, 2]
    assert await store.asset_state[ORDERS].aget("count") == 2


@pytest.mark.parametrize("lost", [False, True])
async def test_the_state_of_a_task_is_cleared_once_its_event_is_done_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    settings = SETTINGS.model_copy(update={"state_store": StateStoreSettings(clear_on_success=True)})
    async with connect(f"sqlite+aiosqlite:///{tmp_path}/state.db", settings=settings) as store:
        (event,) = await record(store, 1)
        done = type(store.backend.deliveries).adone
        found: list[Any] = []

        @on_event(ORDERS, name="loader")
        async def load(event: DeliveredEvent, context: TaskContext) -> None:
            found.append(await context.task_state.aget("job"))
            await context.task_state.aset("job", event.attempt)
            if event.attempt == 1:
                with contextlib.suppress(ZeroDivisionError):  # swallowed, and yet the event is not done
                    async with event.transaction():
                        raise ZeroDivisionError

        async def ended(self: Any, delivery: Any) -> None:
            found.append(await store.task_state(scope).aget("job"))
            if lost:
                raise LeaseLostError("in other hands")
            await done(self, delivery)

        scope = load.scope(cast("DeliveredEvent", event))
        monkeypatch.setattr(type(store.backend.deliveries), "adone", ended)
        async with running(store, load):
            await until(lambda: len(found) == 3)
        assert found == [None, 1, 2]
        assert await store.task_state(scope).aget("job") == (2 if lost else None)


async def test_several_events_are_handled_at_a_time(store: Store) -> None:
    await record(store, 6)
    now = most = 0

    @on_event(ORDERS, concurrency=3)
    async def load(event: DeliveredEvent) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        if event.payload in {0, 1, 2}:
            await until(lambda: most == 3)
        now -= 1

    async with running(store, load):
        await settled(store)
    assert most == 3


async def test_it_drains_on_cancellation(store: Store) -> None:
    await record(store, 3)
    entered, go, done = asyncio.Event(), asyncio.Event(), list[Any]()

    @on_event(ORDERS, name="loader")
    async def load(event: DeliveredEvent) -> None:
        entered.set()
        await go.wait()
        done.append(event.payload)

    async with running(store, load) as task:
        await entered.wait()
        task.cancel()
        await asyncio.sleep(0)
        go.set()
    assert task.cancelled()
    assert done == [0]
    (found,) = await store.alist_consumers()
    assert (found.in_hand, found.waiting + found.behind, found.readers) == (0, 2, 0)


async def test_a_handler_that_does_not_end_is_cancelled_and_its_event_comes_again(tmp_path: Path) -> None:
    settings = Settings(consumers=QUICK, triggerer=TriggererSettings(drain_timeout=0.05))
    async with connect(f"sqlite+aiosqlite:///{tmp_path}/state.db", settings=settings) as store:
        await record(store, 1)
        entered = asyncio.Event()

        @on_event(ORDERS, name="loader")
        async def load(event: DeliveredEvent) -> None:
            entered.set()
            await anyio.sleep_forever()

        async with running(store, load) as task:
            await entered.wait()
        assert task.cancelled()
        (found,) = await store.alist_consumers()
        assert (found.in_hand, found.waiting, found.failed) == (0, 1, 0)
        async for event in store.events(ORDERS, consumer="loader"):
            assert event.attempt == 1
            break


async def test_cancelled_at_many_moments_no_event_is_lost(store: Store) -> None:
    recorded = await record(store, 60)
    handled: list[int] = []

    @on_event(ORDERS, name="loader")
    async def load(event: DeliveredEvent) -> None:
        handled.append(event.id)

    for number in range(60):
        task = asyncio.create_task(HandlerRunner(store, [load]).run())
        for _ in range(number):
            await asyncio.sleep(0)
        task.cancel()
        async with asyncio.timeout(20):
            await asyncio.wait([task])
        assert task.cancelled()
        for found in await store.alist_consumers():
            assert found.in_hand == 0, number
    async with running(store, load):
        await settled(store)
    assert set(handled) == {event.id for event in recorded}


async def test_it_outlives_errors_of_the_store(store: Store, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    seen: list[Any] = []

    @on_event(ORDERS, name="loader")
    async def load(event: DeliveredEvent) -> None:
        seen.append(event.payload)

    async def away(*_: object, **__: object) -> None:
        raise StoreUnavailableError("away")

    with monkeypatch.context() as patch:
        patch.setattr(type(store.backend.deliveries), "ajoin", away)
        async with running(store, load):
            with caplog.at_level(logging.WARNING):
                await until(lambda: "no events yet" in caplog.text)
            patch.undo()
            await record(store, 1)
            await until(lambda: seen == [0])


def test_what_cannot_handle_events_is_said() -> None:
    async def good(event: object) -> None: ...

    async def keyword(event: object, *, more: int) -> None: ...

    async def none() -> None: ...

    def plain(event: object) -> None: ...

    wrong: list[tuple[Callable[[], object], str]] = [
        (lambda: on_event(ORDERS)(keyword), "takes .event. or .event, context."),
        (lambda: on_event(ORDERS)(none), "takes .event."),
        (lambda: on_event(ORDERS)(plain), "write `async def`"),  # type: ignore[arg-type]
        (lambda: on_event()(good), "has no asset"),
        (lambda: on_event("orders")(good), "an Asset is needed"),  # type: ignore[arg-type]
        (lambda: on_event(ORDERS, name="")(good), "1 to 250 bytes"),
        (lambda: on_event(ORDERS, name="x" * 251)(good), "1 to 250 bytes"),
        (lambda: on_event(ORDERS, name="a\0")(good), "NUL"),
        (lambda: on_event(ORDERS, name="\ud800")(good), "lone surrogate"),
        (lambda: on_event(ORDERS, concurrency=0)(good), "at least 1"),
        (lambda: on_event(ORDERS, concurrency=1.5)(good), "at least 1"),  # type: ignore[arg-type]
        (lambda: on_event(ORDERS, max_attempts=-1)(good), "at least 0"),
    ]
    for make, says in wrong:
        with pytest.raises(InvalidHandlerError, match=says):
            make()
    missing = pytest.raises(UnsupportedOperationError, match=r"Capability\.CONSUMERS")
    with connect(backend=MinimalBackend()) as store, missing:
        HandlerRunner(store, [on_event(ORDERS)(good)])
    with connect("sqlite+aiosqlite:///:memory:") as store:
        with pytest.raises(InvalidHandlerError, match="divide its events"):
            HandlerRunner(store, [on_event(ORDERS, name="a")(good), on_event(ORDERS, name="a")(good)])
        with pytest.raises(InvalidHandlerError, match="'beginning', 'end'"):
            HandlerRunner(store, [on_event(ORDERS, start="middle")(good)])  # type: ignore[arg-type]
        asyncio.run(HandlerRunner(store, []).run())


MODULE = """
from asyncstore import Asset
from triggers import on_event

orders = Asset("orders")

@on_event(orders)
async def load(event): ...

same = load
"""


def test_handlers_are_found_beside_assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "only_handlers.py").write_text(MODULE)
    found = discover(str(tmp_path / "only_handlers.py"))
    assert ([each.name for each in found.handlers], found.assets) == (["load"], [])
    with pytest.raises(DiscoveryError, match="no asset with a watcher"):
        load_assets(str(tmp_path / "only_handlers.py"))
    (tmp_path / "nothing_here.py").write_text("x = 1")
    with pytest.raises(DiscoveryError, match="or a handler: @on_event"):
        discover("nothing_here")
