from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest

from asyncstore import Asset, Store, WatcherState
from triggers import (
    AssetWatcher,
    BaseEventTrigger,
    InvalidTriggerError,
    SharedStreamError,
    Triggerer,
    TriggerEvent,
)

from ..support import run_to_the_end, until, watched
from .broker import Broker
from .support import Messages, Numbers, Placed, World, driver

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("kind", [Numbers, Placed])
async def test_a_trigger_with_shared_hooks_only_runs_alone_too(kind: type[Numbers], store: Store, world: World) -> None:
    class Alone(kind):  # type: ignore[misc,valid-type]
        def shared_stream_key(self) -> None:
            return None

    world.add(5)
    world.close()
    world.fail_at = {3}
    recorder = await run_to_the_end(store, watched("a", Alone("one"), Alone("two", every=2)))
    by_watcher = {name: [event.payload for event in recorder.events if event.watcher == name] for name in ("w0", "w1")}
    assert by_watcher == {"w0": [1, 2, 3, 4, 5], "w1": [2, 4]}
    assert len(world.opens) == 3
    if kind is Placed:  # after what is committed
        assert max(since or 0 for since in world.opens) > 0


async def test_an_event_that_is_refused_raises_at_the_yield_and_counts_as_none(world: World, broker: Broker) -> None:
    class Careless(Messages):
        async def filter_shared_stream(self, stream: AsyncIterator[int]) -> AsyncIterator[TriggerEvent]:
            async for number in stream:
                try:
                    yield TriggerEvent(object() if number == 2 else number, key=str(number))
                except TypeError:
                    continue

    broker.publish(1, 2, 3)
    broker.close()
    async with driver() as drive:
        events: Any = drive.hub.events_of("w", Careless("w"), {"name": "w"})
        assert (await anext(events)).payload == 1
        await anext(events)
        assert (await events.athrow(TypeError("no JSON"))).payload == 3
        with pytest.raises(StopAsyncIteration):
            await anext(events)
        await events.aclose()
    assert (broker.acknowledged, broker.dead) == ([1, 3], [2])


async def test_a_class_that_watches_nothing_cannot_be_made() -> None:
    class Nothing(BaseEventTrigger):
        pass

    with pytest.raises(TypeError, match="neither run"):
        Nothing()


class Unready(BaseEventTrigger):
    """Has every hook in a way that does not work."""

    def __init__(self, fault: str) -> None:
        self.fault = fault

    def shared_stream_key(self) -> Any:
        return [1] if self.fault == "key" else self.fault

    @classmethod
    async def _never(cls) -> AsyncIterator[int]:
        yield 1

    @classmethod
    def open_shared_stream(cls, kwargs: dict[str, Any]) -> Any:
        async def coroutine() -> None:
            return

        if kwargs["fault"] == "missing":
            return super().open_shared_stream(kwargs)
        hooks: dict[str, Callable[[], Any]] = {"coroutine": coroutine, "list": lambda: [1], "position": cls._never}
        return hooks[kwargs["fault"]]()

    @classmethod
    def shared_stream_position(cls, raw: int) -> None:
        return None

    def filter_shared_stream(self, stream: AsyncIterator[int]) -> Any:
        if self.fault == "filter":
            return super().filter_shared_stream(stream)

        async def events() -> AsyncIterator[TriggerEvent]:
            async for number in stream:
                yield TriggerEvent(number)

        return events()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("missing", "no open_shared_stream"),
        ("coroutine", "holds no `yield`"),
        ("list", "no async generator"),
        ("position", "gave None"),
        ("filter", "no filter_shared_stream"),
    ],
)
async def test_what_is_wrong_with_a_hook_is_told(fault: str, message: str, store: Store) -> None:
    asset = Asset("a", watchers=[AssetWatcher("w", Unready(fault))])
    async with anyio.create_task_group() as tasks:
        triggerer = Triggerer(store, [asset])
        tasks.start_soon(triggerer.run)

        async def told() -> bool:
            return any(message in str(record.last_error) for record in await store.alist_watchers())

        await until(told)
        triggerer.stop()
    assert {record.state for record in await store.alist_watchers()} == {WatcherState.WAITING}


async def test_a_key_that_cannot_be_hashed_is_told_at_once(store: Store) -> None:
    async with driver() as drive:
        with pytest.raises(InvalidTriggerError, match="unhashable"):
            drive.hub.expect("w", Unready("key"))


async def test_alone_a_producer_that_is_given_up_waiting_for_begins_anew(world: World, broker: Broker) -> None:
    events: Any = Messages("w").run()
    stream: Any = events._stream
    with anyio.move_on_after(0):
        await anext(stream)
    with pytest.raises(SharedStreamError, match="the connection is lost"):
        await anext(stream)
    await stream.aclose()


async def test_a_watcher_whose_key_changes_changes_the_stream(world: World, broker: Broker) -> None:
    async with driver() as drive, anyio.create_task_group() as tasks:
        drive.hub.expect("w", Messages("w"))
        drive.hub.expect("other", Messages("other"))
        broker.publish(1)
        drive.hub.expect("w", Messages("w", bucket="another"))
        tasks.start_soon(drive.keep, Messages("other"))
        await until(lambda: broker.acknowledged == [1])
        tasks.cancel_scope.cancel()
