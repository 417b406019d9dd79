"""Watchers that share a stream are heard and crashed as others are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, ClassVar

import anyio
import pytest

from triggers import AdvanceItem, BaseEventTrigger, SharedStreamError, SharedStreamProducer, TriggerEvent, Verdict
from triggers.testing import crash_everywhere_sync, run_virtual, run_watcher

EXPECTED = [1, 2, 3]


class Shared(BaseEventTrigger):
    """Tells of numbers that come every ten minutes."""

    broken: ClassVar[set[int]] = set()

    def shared_stream_key(self) -> str:
        return "numbers"

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncIterator[int]:
        for number in EXPECTED:
            await anyio.sleep(600)
            if number in cls.broken:
                cls.broken.remove(number)
                raise OSError("away")
            yield number

    async def filter_shared_stream(self, stream: AsyncIterator[int]) -> AsyncIterator[TriggerEvent]:
        at = await self.asset_state.aget("at", 0)
        async for number in stream:
            if number > at:
                yield TriggerEvent(number, checkpoint={"at": number})


class Placed(Shared):
    @classmethod
    def shared_stream_position(cls, raw: int) -> int:
        return raw

    async def shared_stream_since(self) -> Any:
        return await self.asset_state.aget("at")


class Queue(SharedStreamProducer):
    """Gives again what was not acknowledged."""

    left: ClassVar[list[int]] = []

    async def open_stream(self) -> AsyncIterator[tuple[int, int]]:
        for number in list(self.left):
            await anyio.sleep(600)
            yield number, number

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        await anyio.sleep(1)
        for item in batch:
            assert item.verdict is Verdict.ACKNOWLEDGE
            self.left.remove(item.receipt)
        await anyio.sleep(1)

    @classmethod
    def fill(cls) -> None:
        cls.left = list(EXPECTED)


class Acknowledging(Shared):
    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
        return Queue()

    async def filter_shared_stream(self, stream: AsyncIterator[int]) -> AsyncIterator[TriggerEvent]:
        async for number in stream:
            yield TriggerEvent(number, key=str(number))


@pytest.mark.parametrize("kind", [Shared, Placed, Acknowledging])
def test_right_ones_lose_nothing_and_double_nothing(kind: type[Shared]) -> None:
    report = crash_everywhere_sync(kind, source=Queue.fill, expected=EXPECTED, again=range(1, 6))
    report.check()
    lines = {point.place.code for point in report.points if point.place is not None}
    # In the source, in the filter before its first event, and while it is told to the broker.
    assert "await anyio.sleep(600)" in lines
    assert "async for number in stream:" in lines
    assert ("await anyio.sleep(1)" in lines) is (kind is Acknowledging)
    if kind is not Acknowledging:
        assert 'at = await self.asset_state.aget("at", 0)' in lines


class Before(Shared):
    async def filter_shared_stream(self, stream: AsyncIterator[int]) -> AsyncIterator[TriggerEvent]:
        at = await self.asset_state.aget("at", 0)
        async for number in stream:
            if number > at:
                await self.asset_state.aset("at", number)
                yield TriggerEvent(number)


class After(Shared):
    async def filter_shared_stream(self, stream: AsyncIterator[int]) -> AsyncIterator[TriggerEvent]:
        at = await self.asset_state.aget("at", 0)
        async for number in stream:
            if number > at:
                yield TriggerEvent(number)
                await self.asset_state.aset("at", number)


class Forgetful(Shared):
    async def filter_shared_stream(self, stream: AsyncIterator[int]) -> AsyncIterator[TriggerEvent]:
        async for number in stream:
            yield TriggerEvent(number)


class Eager(Acknowledging):
    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
        return EagerQueue()


class EagerQueue(Queue):
    """Acknowledges what it gives out, as `auto_ack` does."""

    async def open_stream(self) -> AsyncIterator[tuple[int, int]]:
        while self.left:
            await anyio.sleep(600)
            number = self.left.pop(0)
            yield number, number

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        pass


class Keyless(Acknowledging):
    async def filter_shared_stream(self, stream: AsyncIterator[int]) -> AsyncIterator[TriggerEvent]:
        async for number in stream:
            yield TriggerEvent(number)


@pytest.mark.parametrize(
    ("kind", "lost", "doubled", "hint"),
    [
        (Before, EXPECTED, [], "before the event it speaks of"),
        (After, [], EXPECTED, "after the event it speaks of"),
        (Forgetful, [], EXPECTED, "give it a `checkpoint`, or a `key`"),
        (Eager, EXPECTED, [], "its source does not give again what was not committed"),
        (Keyless, [], EXPECTED, "give it a `checkpoint`, or a `key`"),
    ],
)
def test_each_mistake_is_found(kind: type[Shared], lost: list[int], doubled: list[int], hint: str) -> None:
    report = crash_everywhere_sync(kind, source=Queue.fill, expected=EXPECTED)
    assert (report.lost, report.doubled) == (lost, doubled)
    assert hint in str(report)


def test_what_was_not_waited_for_long_enough_is_told() -> None:
    report = crash_everywhere_sync(Shared, expected=EXPECTED, quiet=900.0)
    # Started again at the last number, it is quiet for half an hour until it comes there.
    assert "else the run was ended because nothing came any more (quiet); see `idle` and `quiet`" in str(report)


def test_its_attempts_failures_and_end_are_recorded() -> None:
    async def main() -> None:
        Shared.broken = {2}
        async with run_watcher(Shared()) as watching:
            (error,) = await watching.wait_failures(1)
            assert isinstance(error, SharedStreamError)
            await watching.wait_done()
        assert watching.payloads == EXPECTED
        assert watching.recording.attempts == 2

    run_virtual(main)


def test_it_is_heard_once_where_its_run_is_made_of_its_filter() -> None:
    class Alone(Shared):
        def shared_stream_key(self) -> Any:
            return None

    async def main() -> None:
        async with run_watcher(Alone()) as watching:
            await watching.wait_done()
        assert watching.payloads == EXPECTED
        assert watching.recording.attempts == 1
        assert "run" not in vars(Alone)

    run_virtual(main)
    assert Shared.filter_shared_stream.__qualname__ == "Shared.filter_shared_stream"
    assert Shared.bind is BaseEventTrigger.bind
