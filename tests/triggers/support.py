from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any

import anyio

from asyncstore import Asset, Event, Settings, Store, TriggererSettings, connect
from triggers import AssetWatcher, BaseTrigger, Triggerer

#: Restarts without waiting, and drains that end early enough to be seen hanging.
QUICK = Settings(triggerer=TriggererSettings(restart_delay=0.001, restart_delay_max=0.002, drain_timeout=2.0))


class Recorder:
    def __init__(self) -> None:
        self.events: list[Event] = []

    async def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def payloads(self) -> list[Any]:
        return [event.payload for event in self.events]


def watched(name: str, *triggers: BaseTrigger) -> Asset:
    return Asset(name, watchers=[AssetWatcher(f"w{index}", trigger) for index, trigger in enumerate(triggers)])


async def run_to_the_end(store: Store, *assets: Asset) -> Recorder:
    recorder = Recorder()
    with anyio.fail_after(20):
        await Triggerer(store, assets, on_event=recorder, begin_anew=True).run()
    return recorder


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    with anyio.fail_after(20):
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            await anyio.sleep(0.001)


@contextmanager
def patched(owner: Any, name: str, value: Any) -> Generator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


async def memory_store() -> AsyncIterator[Store]:
    async with connect("sqlite+aiosqlite:///:memory:", settings=QUICK) as store:
        yield store
