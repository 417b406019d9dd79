"""Hooks that raise `CancelledError` by themselves, as a future does that somebody cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, ClassVar

import pytest

from asyncstore import Asset, Store
from triggers import AdvanceItem, AssetWatcher, BaseEventTrigger, SharedStreamProducer, TriggerEvent

from ..support import Recorder, run_to_the_end

pytestmark = pytest.mark.anyio

#: Where it is still to be raised.
due: set[str] = set()


async def stumble(where: str) -> None:
    if where in due:
        due.discard(where)
        cancelled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        cancelled.cancel()
        await cancelled


class Stumbling(BaseEventTrigger):
    def __init__(self, name: str) -> None:
        self.name = name

    def shared_stream_key(self) -> str:
        return "all"

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncIterator[int]:
        try:
            for number in (1, 2, 3):
                yield number
                if number == 2:
                    await stumble("open")
        finally:
            await stumble("close")

    async def filter_shared_stream(self, stream: AsyncIterator[int]) -> AsyncIterator[TriggerEvent]:
        async for number in stream:
            if self.name == "one" and number == 2:
                await stumble("filter")
            yield TriggerEvent(number, key=str(number))


class Connection(SharedStreamProducer):
    """Gives again what was not advanced."""

    done: ClassVar[set[int]] = set()

    async def open_stream(self) -> AsyncIterator[tuple[int, int]]:
        for number in {1, 2, 3} - self.done:
            yield number, number
            if number == 2:
                await stumble("open")

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        await stumble("advance")
        # The receipts of what failed are not noted, so that it comes again with the next connection.
        self.done.update(item.receipt for item in batch if item.accepted and not item.failed)

    async def aclose(self) -> None:
        await stumble("close")


class Acknowledging(Stumbling):
    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
        return Connection()


def told(recorder: Recorder, asset: str) -> list[Any]:
    return [event.payload for event in recorder.events if event.asset == asset]


@pytest.mark.parametrize(
    ("kind", "where"),
    [
        (Stumbling, "open"),
        (Stumbling, "close"),
        (Stumbling, "filter"),
        (Acknowledging, "open"),
        (Acknowledging, "advance"),
        (Acknowledging, "close"),
    ],
)
async def test_it_breaks_the_stream_as_any_error_and_nothing_is_lost(
    kind: type[Stumbling], where: str, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    due.add(where)
    Connection.done = set()
    assets = [Asset(name, watchers=[AssetWatcher("w", kind(name))]) for name in ("one", "two")]
    recorder = await run_to_the_end(store, *assets)
    assert not due
    assert [told(recorder, asset.name) for asset in assets] == [[1, 2, 3]] * 2
    if where != "close":
        assert "raised CancelledError, though nobody cancelled it" in caplog.text
    if kind is Acknowledging:
        assert Connection.done == {1, 2, 3}


async def test_a_filter_that_is_cancelled_by_nobody_has_failed_what_it_had_in_hand(store: Store) -> None:
    failed: list[int] = []

    class Noting(Connection):
        async def advance(self, batch: Sequence[AdvanceItem]) -> None:
            failed.extend(item.receipt for item in batch if item.failed)

    class Noted(Stumbling):
        @classmethod
        def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
            return Noting()

    due.add("filter")
    Connection.done = set()
    await run_to_the_end(store, Asset("one", watchers=[AssetWatcher("w", Noted("one"))]))
    assert failed == [2]


async def test_a_source_may_change_the_arguments_that_it_is_given(store: Store) -> None:
    opened: list[dict[str, Any]] = []

    class Taking(Stumbling):
        @classmethod
        async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncIterator[int]:
            opened.append(dict(kwargs))
            kwargs.clear()
            yield len(opened)
            if len(opened) < 3:
                raise OSError("again")

        async def filter_shared_stream(self, stream: AsyncIterator[int]) -> AsyncIterator[TriggerEvent]:
            async for number in stream:
                yield TriggerEvent(number, key=str(number))

    await run_to_the_end(store, Asset("one", watchers=[AssetWatcher("w", Taking("one"))]))
    assert opened == [{"name": "one"}] * 3
