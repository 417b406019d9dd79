"""What the tests of consumers share: events, settings that are quick, and stops at every await."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

from asyncstore import Asset, ConsumerRecord, ConsumerSettings, Event, Settings, Store

ORDERS = Asset("orders", uri="s3://warehouse/orders/")
#: Seconds that something which must happen gets; only a failing test waits so long.
PATIENCE = 30.0
#: Failures come again at once, and idle readers look often.
QUICK = ConsumerSettings(poll_interval=0.005, retry_delay=0.001, retry_delay_max=0.001)
SETTINGS = Settings(consumers=QUICK)


def options(**changes: Any) -> ConsumerSettings:
    return ConsumerSettings(**{**QUICK.model_dump(), **changes})


def loop(store: Store, name: str = "loader", **changes: Any) -> Any:
    """Give an iterator that can be closed."""
    return store.events(ORDERS, consumer=name, settings=options(**changes)).__aiter__()


async def facts(store: Store) -> ConsumerRecord:
    (found,) = await store.alist_consumers()
    return found


async def state(store: Store) -> tuple[int, int, int]:
    found = await facts(store)
    return found.in_hand, found.waiting, found.failed


async def record(store: Store, count: int, asset: Asset = ORDERS) -> list[Event]:
    """Record events as a watcher does, with the payloads from 0 on."""
    watcher = await store.aclaim_watcher(asset, "watcher", owner="tests")
    commits = [await watcher.prepare(number, None, None) for number in range(count)]
    return [(await watcher.acommit(commit))[0] for commit in commits]


@types.coroutine
def stepping(work: Coroutine[Any, Any, Any], stop: Callable[[int], object]) -> Generator[Any, Any, Any]:
    """Run a coroutine, and call a function before each of its awaits that suspends, with its number from 1 on."""
    count = 0
    resume: Callable[[Any], Any] = work.send
    value: Any = None
    while True:
        try:
            future = resume(value)
        except StopIteration as end:
            return end.value
        count += 1
        stop(count)
        try:
            resume, value = work.send, (yield future)
        except BaseException as error:  # as the loop does it: the coroutine hears of it where it waits
            resume, value = work.throw, error


async def cancelled_at(number: int, work: Coroutine[Any, Any, Any]) -> bool:
    """Run a coroutine that is cancelled at an await; tell whether it came so far."""

    def stop(count: int) -> None:
        if count == number:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()

    async def main() -> None:
        await stepping(work, stop)

    task = asyncio.create_task(main())
    await asyncio.wait([task])
    if task.cancelled():
        return True
    task.result()
    return False


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = condition()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.001)
