"""Watchers that are right, and watchers with one mistake each."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import ClassVar

import anyio

from triggers import BaseEventTrigger, TriggerEvent

HOUR = 3600.0
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Checkpointed(BaseEventTrigger):
    """Right: looks every hour, and gives its watermark with the event."""

    notes: ClassVar[list[str]] = []

    def __init__(self, upto: int = 4) -> None:
        self.upto = upto

    async def run(self) -> AsyncIterator[TriggerEvent]:
        try:
            at = await self.asset_state.aget("watermark", 0)
            while at < self.upto:
                await anyio.sleep(HOUR)
                at += 1
                yield TriggerEvent(at, checkpoint={"watermark": at})
        except BaseException as error:
            self.notes.append(type(error).__name__)
            raise
        finally:
            self.notes.append("finally")

    async def cleanup(self) -> None:
        self.notes.append("cleanup")


class Keyed(BaseEventTrigger):
    """Right: tells all again after a restart, under the same keys."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        for number in (1, 2, 3):
            await anyio.sleep(HOUR)
            yield TriggerEvent(number, key=f"number {number}")


class WritesBefore(BaseEventTrigger):
    """Wrong: a crash between the write and the event loses the event."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        at = await self.asset_state.aget("watermark", 0)
        while at < 3:
            at += 1
            await self.asset_state.aset("watermark", at)
            yield TriggerEvent(at)


class WritesAfter(BaseEventTrigger):
    """Wrong: a crash between the event and the write doubles the event."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        at = await self.asset_state.aget("watermark", 0)
        while at < 3:
            at += 1
            yield TriggerEvent(at)
            await self.asset_state.aset("watermark", at)


class OneTooMany(BaseEventTrigger):
    """Wrong: begins with the event that its watermark names, which was told."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        since = await self.asset_state.aget("watermark", 0)
        for number in (1, 2, 3):
            if since <= number:
                await anyio.sleep(HOUR)
                yield TriggerEvent(number, checkpoint={"watermark": number})


class Forgetful(BaseEventTrigger):
    """Wrong: knows what it told from memory alone."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        told: set[int] = set()
        for number in (1, 2, 3):
            if number not in told:
                await anyio.sleep(HOUR)
                yield TriggerEvent(number)
                told.add(number)


class Batches(BaseEventTrigger):
    """Wrong: the first event of a batch carries the watermark of all of it."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        at = await self.asset_state.aget("watermark", 0)
        while at < 4:
            end = at + 2
            for number in range(at + 1, end + 1):
                yield TriggerEvent(number, checkpoint={"watermark": end})
            at = end


class Backwards(BaseEventTrigger):
    """Wrong in its order: once restarted it begins with the latest."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        told = await self.asset_state.aget("told", [])
        started = await self.asset_state.aget("started", False)
        await self.asset_state.aset("started", True)
        for number in (3, 2, 1) if started else (1, 2, 3):
            if number not in told:
                told = [*told, number]
                yield TriggerEvent(number, checkpoint={"told": told})


class Endless(BaseEventTrigger):
    """Right, and without end."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        at = await self.asset_state.aget("watermark", 0)
        while True:
            at += 1
            yield TriggerEvent(at, checkpoint={"watermark": at})
            await anyio.sleep(1)


class Fails(BaseEventTrigger):
    """Raises twice, and goes on."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        at = await self.asset_state.aget("watermark", 0)
        while at < 3:
            at += 1
            yield TriggerEvent(at, checkpoint={"watermark": at})
            if at < 3:
                raise RuntimeError(f"after {at}")


class Clocks(BaseEventTrigger):
    """Tells what every clock says after an hour."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        before = (
            time.monotonic(),
            time.time(),
            time.time_ns(),
            time.monotonic_ns(),
            datetime.now(UTC),
            anyio.current_time(),
        )
        await anyio.sleep(HOUR)
        yield TriggerEvent(
            [
                time.monotonic() - before[0],
                time.time() - before[1],
                (time.time_ns() - before[2]) / 1e9,
                (time.monotonic_ns() - before[3]) / 1e9,
                (datetime.now(UTC) - before[4]).total_seconds(),
                anyio.current_time() - before[5],
                isinstance(EPOCH, datetime),  # pyright: ignore[reportUnnecessaryIsInstance]  # `datetime` is another one
            ],
            key="once",
        )
