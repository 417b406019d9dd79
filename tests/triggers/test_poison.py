"""An item that always fails stops nobody but itself, and is seen."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest

from asyncstore import Asset, Settings, Store, TriggererSettings, connect
from triggers import AssetWatcher, BaseEventTrigger, Poison, TriggerEvent
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


@pytest.mark.parametrize("options", [{"attempts": 0}, {"attempts": True}, {"attempts": 2.0}, {"then": "drop"}])
def test_wrong_policies_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is"):
        Poison(**options)


def test_a_watcher_takes_a_policy_and_nothing_else() -> None:
    with pytest.raises(TypeError, match="poison is a Poison or None, not 5"):
        AssetWatcher("w", Parsing(), poison=5)  # type: ignore[arg-type]
