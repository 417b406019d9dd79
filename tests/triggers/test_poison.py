"""An item that always fails stops nobody but itself, and is seen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, ClassVar

import pytest

from asyncstore import (
    Asset,
    Settings,
    StateStoreSettings,
    Store,
    StoreBusyError,
    TriggererSettings,
    connect,
)
from triggers import (
    AdvanceItem,
    AssetWatcher,
    BaseEventTrigger,
    Poison,
    SharedStreamProducer,
    TriggerEvent,
    Verdict,
)
from triggers.poison import forget_set_aside, list_set_aside

from .support import run_to_the_end

pytestmark = pytest.mark.anyio

QUICK = Settings(triggerer=TriggererSettings(restart_delay=0.001, restart_delay_max=0.002))


@pytest.fixture
async def store(anyio_backend: str) -> AsyncIterator[Store]:
    async with connect("sqlite+aiosqlite:///:memory:", settings=QUICK) as store:
        yield store


class Parsing(BaseEventTrigger):
    """Doubles numbers, from its watermark on."""

    items: ClassVar[list[Any]] = []
    attempts: ClassVar[int] = 0

    async def run(self) -> AsyncIterator[TriggerEvent]:
        type(self).attempts += 1
        at = await self.asset_state.aget("at", 0)
        for number, item in enumerate(self.items[at:], at + 1):
            async with self.item(f"item {number}"):
                yield TriggerEvent(item * 2 if item != "bad" else {item}, checkpoint={"at": number})


@pytest.fixture(autouse=True)
def _anew() -> None:
    Parsing.items, Parsing.attempts = [1, "bad", 2], 0


def watched(poison: Poison | None) -> Asset:
    return Asset("a", watchers=[AssetWatcher("w", Parsing(), poison=poison)])


async def test_an_item_that_failed_often_enough_is_set_aside_and_the_rest_goes_on(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = await run_to_the_end(store, watched(Poison(attempts=3)))
    assert recorder.payloads == [2, 4]
    assert Parsing.attempts == 3
    (aside,) = await list_set_aside(store.asset_state[Asset("a")])
    assert (aside.watcher, aside.item, aside.attempts, aside.is_aside) == ("w", "item 2", 3, True)
    assert "TypeError" in aside.error
    assert "watcher 'w' goes on without 'item 2': it failed 3 times" in caplog.text
    await forget_set_aside(store.asset_state[Asset("a")], "w", "item 2")
    assert await list_set_aside(store.asset_state[Asset("a")]) == []


async def test_an_item_that_is_skipped_leaves_nothing_behind(store: Store) -> None:
    recorder = await run_to_the_end(store, watched(Poison(attempts=2, then="skip")))
    assert recorder.payloads == [2, 4]
    assert await store.asset_state[Asset("a")].akeys() == ["at"]


async def test_an_item_that_is_mended_in_time_is_forgotten(store: Store) -> None:
    class Mends(BaseEventTrigger):
        attempts: ClassVar[int] = 0

        async def run(self) -> AsyncIterator[TriggerEvent]:
            type(self).attempts += 1
            async with self.item("it"):
                if self.attempts < 3:
                    raise ValueError("not yet")
                yield TriggerEvent("mended")

    asset = Asset("a", watchers=[AssetWatcher("w", Mends(), poison=Poison(attempts=5))])
    assert (await run_to_the_end(store, asset)).payloads == ["mended"]
    assert await store.asset_state[Asset("a")].akeys() == []


async def test_failures_count_across_restarts_of_the_process(store: Store) -> None:
    class Sometimes(BaseEventTrigger):
        """Fails at its item, and ends by itself before it could be tried again."""

        runs: ClassVar[int] = 0

        def fail(self) -> None:
            raise ValueError(f"run {self.runs}")

        async def run(self) -> AsyncIterator[TriggerEvent]:
            type(self).runs += 1
            if self.runs % 2 == 0:
                return
            async with self.item("it"):
                self.fail()
            yield TriggerEvent("gone on")

    asset = Asset("a", watchers=[AssetWatcher("w", Sometimes(), poison=Poison(attempts=3))])
    for failures in (1, 2):
        await run_to_the_end(store, asset)
        (known,) = await list_set_aside(store.asset_state[Asset("a")])
        assert (known.attempts, known.is_aside) == (failures, False)
    assert (await run_to_the_end(store, asset)).payloads == ["gone on"]
    (known,) = await list_set_aside(store.asset_state[Asset("a")])
    assert (known.attempts, known.is_aside) == (3, True)
    assert "ValueError: run 5" in known.error


async def test_without_a_policy_it_is_tried_for_ever(store: Store) -> None:
    class Thrice(Parsing):
        async def run(self) -> AsyncIterator[TriggerEvent]:
            type(self).attempts += 1
            async with self.item("it"):
                if self.attempts < 8:
                    raise ValueError("not yet")
                yield TriggerEvent("at last")

    recorder = await run_to_the_end(store, Asset("a", watchers=[AssetWatcher("w", Thrice())]))
    assert recorder.payloads == ["at last"]
    assert await store.asset_state[Asset("a")].akeys() == []


class Failing(BaseEventTrigger):
    """Fails at the second of three items, in a way of its own."""

    ways: ClassVar[dict[str, Callable[[], Any]]] = {}
    names: ClassVar[list[str]] = ["1", "2", "3"]
    attempts: ClassVar[int] = 0

    def __init__(self, way: str) -> None:
        self.way = way

    async def run(self) -> AsyncIterator[TriggerEvent]:
        type(self).attempts += 1
        at = await self.asset_state.aget("at", 0)
        for number, name in enumerate(self.names[at:], at + 1):
            async with self.item(name):
                payload: Any = number
                if number == 2:
                    payload = await getattr(self, self.way)()
                yield TriggerEvent(payload, checkpoint={"at": number})

    async def too_large(self) -> str:
        return "x" * 100_000

    async def long_error(self) -> None:
        raise ValueError("x" * 5_000)

    async def cancelled_by_nobody(self) -> None:
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lost.cancel()
        await lost

    async def group(self) -> None:
        raise ExceptionGroup("all", [ValueError("one"), ExceptionGroup("more", [KeyError("two")])])

    async def busy(self) -> None:
        if self.attempts < 6:
            raise ExceptionGroup("all", [ValueError("one"), StoreBusyError("away")])


@pytest.mark.parametrize("way", ["too_large", "long_error", "cancelled_by_nobody", "group"])
@pytest.mark.parametrize("second", ["2", "not \udc80 Unicode"])
async def test_whatever_is_wrong_with_an_item_it_is_set_aside(
    way: str, second: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Failing, "names", ["1", second, "3"])
    settings = Settings(triggerer=QUICK.triggerer, state_store=StateStoreSettings(max_value_storage_bytes=1_000))
    async with connect("sqlite+aiosqlite:///:memory:", settings=settings) as store:
        asset = Asset("a", watchers=[AssetWatcher("w", Failing(way), poison=Poison(attempts=2))])
        assert (await run_to_the_end(store, asset)).payloads == [1, 3]
        (aside,) = await list_set_aside(store.asset_state[Asset("a")])
        assert (aside.item, aside.attempts, aside.is_aside) == (second.replace("\udc80", "\\udc80"), 2, True)
        await forget_set_aside(store.asset_state[Asset("a")], "w", aside.item)
        assert await list_set_aside(store.asset_state[Asset("a")]) == []


async def test_a_store_that_fails_among_others_counts_against_no_item(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Failing, "attempts", 0)
    asset = Asset("a", watchers=[AssetWatcher("w", Failing("busy"), poison=Poison(attempts=2))])
    assert (await run_to_the_end(store, asset)).payloads == [1, None, 3]
    assert Failing.attempts == 6


@pytest.mark.parametrize("then", ["set aside", "skip"])
async def test_an_item_that_comes_again_is_passed_over_without_another_word(
    then: Any, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    class Looking(BaseEventTrigger):
        """Looks three times; its last item is bad, so that no watermark gets past it."""

        attempts: ClassVar[int] = 0

        async def run(self) -> AsyncIterator[TriggerEvent]:
            type(self).attempts += 1
            for _ in range(3):
                async with self.item("bad"):
                    raise ValueError("bad")
            yield TriggerEvent("done")

    asset = Asset("a", watchers=[AssetWatcher("w", Looking(), poison=Poison(attempts=2, then=then))])
    assert (await run_to_the_end(store, asset)).payloads == ["done"]
    assert Looking.attempts == 2
    assert caplog.text.count("goes on without 'bad'") == 1


@pytest.mark.parametrize("options", [{"attempts": 0}, {"attempts": True}, {"attempts": 2.0}, {"then": "drop"}])
def test_wrong_policies_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is"):
        Poison(**options)


def test_a_watcher_takes_a_policy_and_nothing_else() -> None:
    with pytest.raises(TypeError, match="poison is a Poison or None, not 5"):
        AssetWatcher("w", Parsing(), poison=5)  # type: ignore[arg-type]


async def test_behind_a_broker_what_is_set_aside_is_passed_over(store: Store) -> None:
    answers: list[tuple[int, Verdict]] = []

    class Queue(SharedStreamProducer):
        async def open_stream(self) -> AsyncIterator[tuple[str, int]]:
            for number, text in enumerate(["1", "bad", "3"]):
                yield text, number

        async def advance(self, batch: Sequence[AdvanceItem]) -> None:
            answers.extend((item.receipt, item.verdict) for item in batch)

    class Parses(BaseEventTrigger):
        def shared_stream_key(self) -> str:
            return "queue"

        @classmethod
        def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
            return Queue()

        async def filter_shared_stream(self, stream: AsyncIterator[str]) -> AsyncIterator[TriggerEvent]:
            async for text in stream:
                async with self.item(text):
                    yield TriggerEvent(int(text), key=text)

    asset = Asset("a", watchers=[AssetWatcher("w", Parses(), poison=Poison(attempts=1))])
    assert (await run_to_the_end(store, asset)).payloads == [1, 3]
    assert answers == [(0, Verdict.ACKNOWLEDGE), (1, Verdict.DEAD_LETTER), (2, Verdict.ACKNOWLEDGE)]
    (aside,) = await list_set_aside(store.asset_state[Asset("a")])
    assert (aside.item, aside.is_aside) == ("bad", True)
