from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Hashable
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import anyio

from asyncstore import Asset, ClaimedWatcher, MemoryBackend, Settings, Store, TriggererSettings, connect
from triggers import BaseEventTrigger, SharedStreamProducer, TriggerEvent
from triggers.abc import arguments_of
from triggers.streams.hub import StreamHub

from .broker import Broker, Connection


def settings(buffer: int = 1000, patience: float = 0.0, restart_delay: float = 0.001) -> Settings:
    return Settings(
        triggerer=TriggererSettings(
            restart_delay=restart_delay,
            restart_delay_max=restart_delay * 2,
            drain_timeout=2.0,
            shared_stream_buffer=buffer,
            shared_stream_patience=patience,
        )
    )


class World:
    """What is outside: a log of numbered items, who reads it, and who is held up."""

    def __init__(self) -> None:
        self.items = 0
        self.closed = False
        self.opens: list[Any] = []
        self.open_now = 0
        self.given = 0
        self.fail_at: set[int] = set()
        self.broken: Exception | None = None
        self.held: dict[str, anyio.Event] = {}
        self.waiting: set[str] = set()
        #: Awaited by a watcher that has a raw event in hand: its name and the number.
        self.on_work: Callable[[str, int], Any] | None = None
        self._changed = anyio.Event()

    def add(self, count: int) -> None:
        self.items += count
        self._tell()

    def close(self) -> None:
        self.closed = True
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    def hold(self, name: str) -> None:
        self.held[name] = anyio.Event()

    def release(self, name: str) -> None:
        self.held.pop(name).set()

    async def work(self, name: str, number: int) -> None:
        if name in self.held:
            self.waiting.add(name)
            await self.held[name].wait()
        if self.on_work is not None:
            await self.on_work(name, number)

    async def read(self, since: int | None) -> AsyncGenerator[int]:
        self.opens.append(since)
        self.open_now += 1
        try:
            if self.broken is not None:
                raise self.broken
            number = since or 0
            while True:
                while number < self.items:
                    number += 1
                    if number in self.fail_at:
                        self.fail_at.discard(number)
                        raise OSError(f"the source failed at {number}")
                    self.given += 1
                    yield number
                if self.closed:
                    return
                await self._changed.wait()
        finally:
            self.open_now -= 1


class Numbers(BaseEventTrigger):
    """Derive an event from every number that `every` divides."""

    world: ClassVar[World]

    def __init__(self, name: str, every: int = 1, bucket: str = "bucket") -> None:
        self.name = name
        self.every = every
        self.bucket = bucket

    def shared_stream_key(self) -> Hashable:
        return self.bucket

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncIterator[int]:
        async for number in cls.world.read(kwargs.get("shared_stream_since")):
            yield number

    async def filter_shared_stream(self, stream: AsyncIterator[int]) -> AsyncIterator[TriggerEvent]:
        at = await self.asset_state.aget(f"{self.name}/watermark", 0)
        async for number in stream:
            if number <= at:
                continue
            await self.world.work(self.name, number)
            if number % self.every == 0:
                yield TriggerEvent(number, checkpoint={f"{self.name}/watermark": number})


class Placed(Numbers):
    """Knows its positions, and relies on being given nothing twice."""

    @classmethod
    def shared_stream_position(cls, raw: int) -> int:
        return raw

    async def shared_stream_since(self) -> int | None:
        watermark: int | None = await self.asset_state.aget(f"{self.name}/watermark")
        return watermark

    async def filter_shared_stream(self, stream: AsyncIterator[int]) -> AsyncIterator[TriggerEvent]:
        async for number in stream:
            await self.world.work(self.name, number)
            if number % self.every == 0:
                yield TriggerEvent(number, checkpoint={f"{self.name}/watermark": number})


class Snapshots(Numbers):
    """Every number stands for those before it."""

    shared_stream_snapshots = True


def expected(world: World, every: int = 1) -> list[int]:
    return [number for number in range(1, world.items + 1) if number % every == 0]


class Driver:
    """Runs attempts of watchers against a hub and a store, as a supervisor does, one by one."""

    def __init__(self, store: Store, hub: StreamHub, asset: Asset) -> None:
        self.store = store
        self.hub = hub
        self.asset = asset
        self.committed: dict[str, list[Any]] = {}
        self.errors: dict[str, list[Exception]] = {}

    async def attempt(self, trigger: Numbers, *, on_commit: Callable[[str, Any], Any] | None = None) -> None:
        """Run one attempt to its end."""
        name = trigger.name
        claimed: ClaimedWatcher = await self.store.aclaim_watcher(self.asset, name, owner="test")
        fresh = type(trigger)(**arguments_of(trigger))  # type: ignore[arg-type]
        fresh.bind(self.asset, claimed.asset_state)
        events: Any = self.hub.events_of(name, fresh, arguments_of(trigger))
        try:
            async for event in events:
                commit = await claimed.prepare(event.payload, event.key, event.checkpoint)
                duplicate = True
                with anyio.CancelScope(shield=True):  # a commit in hand is finished
                    _, duplicate = await claimed.acommit(commit)
                if not duplicate:
                    self.committed.setdefault(name, []).append(event.payload)
                if on_commit is not None:
                    await on_commit(name, event.payload)
                await anyio.lowlevel.checkpoint()
        finally:
            with anyio.CancelScope(shield=True):
                await events.aclose()

    async def keep(self, trigger: Numbers) -> None:
        """Run attempts until one returns."""
        while True:
            try:
                await self.attempt(trigger)
            except Exception as error:
                self.errors.setdefault(trigger.name, []).append(error)
                await anyio.lowlevel.checkpoint()
            else:
                self.hub.retire(trigger.name)
                return


@asynccontextmanager
async def driver(buffer: int = 1000, patience: float = 0.0, restart_delay: float = 0.001) -> AsyncGenerator[Driver]:
    """Give a driver on a store in memory; at the end its streams are closed."""
    async with (
        connect(backend=MemoryBackend(), settings=settings(buffer, patience, restart_delay)) as store,
        anyio.create_task_group() as tasks,
    ):
        hub = StreamHub(store.settings.triggerer)
        hub.start(tasks)
        try:
            yield Driver(store, hub, Asset("numbers"))
        finally:
            tasks.cancel_scope.cancel()


class Stepped:
    """Runs a coroutine and cancels a scope when it waits for the n-th time."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], scope: anyio.CancelScope, at: int) -> None:
        self._steps = coroutine.__await__()
        self._scope = scope
        self._at = at
        self.waits = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        argument: Any = None
        error: BaseException | None = None
        while True:
            try:
                waited = self._steps.send(argument) if error is None else self._steps.throw(error)
            except StopIteration as stop:
                return stop.value
            self.waits += 1
            if self.waits == self._at:
                self._scope.cancel()
            try:
                argument, error = (yield waited), None
            except BaseException as raised:
                error = raised


async def cancelled_at(at: int, coroutine: Coroutine[Any, Any, Any]) -> bool:
    """Run a coroutine, cancelled when it waits for the n-th time; say whether it came so far."""
    with anyio.CancelScope() as scope:
        stepped = Stepped(coroutine, scope, at)
        await stepped
    return scope.cancel_called


async def settle(rounds: int = 50) -> None:
    """Let every task that can go on do so."""
    for _ in range(rounds):
        await anyio.lowlevel.checkpoint()


class Messages(Numbers):
    """Derive an event, with a key, from every message that `every` divides."""

    broker: ClassVar[Broker]

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer | None:
        return Connection(cls.broker)

    async def filter_shared_stream(self, stream: AsyncIterator[int]) -> AsyncIterator[TriggerEvent]:
        async for number in stream:
            await self.world.work(self.name, number)
            if number % self.every == 0:
                yield TriggerEvent(number, key=str(number))
