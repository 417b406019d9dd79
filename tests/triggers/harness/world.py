"""Triggerers in one process and on virtual time, with a backend in memory: so it is told to the second what they do."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import anyio

from asyncstore import (
    Asset,
    LeaseLostError,
    MemoryBackend,
    Settings,
    Store,
    TriggererSettings,
    WatcherState,
    connect,
)
from triggers import AssetWatcher, BaseEventTrigger, Triggerer, TriggerEvent
from triggers.handlers import Handler
from triggers.testing import run_virtual, virtual_clock

__all__ = ["BEAT", "LEASE", "NAMES", "Failing", "Once", "Quiet", "Ticking", "World", "settings", "virtual", "watched"]

LEASE, BEAT = 30.0, 10.0
NAMES = [f"asset {number}" for number in range(12)]


class Ticking(BaseEventTrigger):
    """Counts on, once a second."""

    notes: ClassVar[list[str]] = []

    async def run(self) -> AsyncIterator[TriggerEvent]:
        at = await self.asset_state.aget("watermark", 0)
        try:
            while True:
                at += 1
                yield TriggerEvent(at, checkpoint={"watermark": at})
                await anyio.sleep(1)
        except LeaseLostError:
            self.notes.append(f"lost {self.asset.name}")
            raise

    async def cleanup(self) -> None:
        self.notes.append(f"cleanup {self.asset.name}")

    async def on_kill(self) -> None:
        self.notes.append(f"on_kill {self.asset.name}")


class Failing(Ticking):
    """Raises at once, for as long as it is told to."""

    broken: ClassVar[bool] = True

    async def run(self) -> AsyncIterator[TriggerEvent]:
        if self.broken:
            raise RuntimeError("broken")
        yield TriggerEvent("mended")


class Once(BaseEventTrigger):
    """Returns after a minute."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        yield TriggerEvent("once")
        await anyio.sleep(60)


class Quiet(Ticking):
    """Tells one event, and nothing after it."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        yield TriggerEvent(1)
        await anyio.sleep_forever()


def watched(*names: str, kind: type[BaseEventTrigger] = Ticking) -> list[Asset]:
    return [Asset(name, watchers=[AssetWatcher("w", kind())]) for name in names]


def settings(**options: Any) -> Settings:
    given: dict[str, Any] = {"lease": LEASE, "heartbeat_interval": BEAT, "block_warning": 0.0, **options}
    return Settings(triggerer=TriggererSettings(**given))


class World:
    """One backend, and triggerers on it."""

    def __init__(self) -> None:
        self.backend = MemoryBackend(clock=virtual_clock())
        self.running: dict[str, Triggerer] = {}

    @asynccontextmanager
    async def opened(self, **options: Any) -> AsyncGenerator[Store]:
        async with connect(backend=self.backend, settings=settings(**options), clock=virtual_clock()) as store:
            yield store

    async def holders(self) -> Counter[str]:
        records = await self.backend.alist_watchers()
        return Counter(each.owner for each in records if each.lease_age is not None)

    async def states(self) -> dict[str, WatcherState]:
        return {each.asset: each.state for each in await self.backend.alist_watchers()}

    async def run(self, owner: str, assets: list[Asset], *, handlers: Sequence[Handler] = (), **options: Any) -> None:
        async with self.opened(**options) as store:
            triggerer = self.running[owner] = Triggerer(store, assets, owner=owner, handlers=handlers)
            await triggerer.run()

    async def judge(self, *names: str) -> None:
        """Hold each watcher to one event for each number, in order."""
        numbers: dict[str, list[Any]] = {name: [] for name in names}
        for event in await self.backend.alist_events():
            numbers.setdefault(event.asset, []).append(event.payload)
        for name in names:
            found = numbers[name]
            assert found == list(range(1, len(found) + 1)), name


def virtual(test: Callable[[World], Awaitable[None]]) -> Callable[[], None]:
    """Run a test on virtual time."""

    async def main() -> None:
        with anyio.fail_after(100_000):
            await test(World())

    def run() -> None:
        run_virtual(main)

    run.__name__ = run.__qualname__ = getattr(test, "__name__", "test")
    return run
