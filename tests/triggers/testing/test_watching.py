"""The recorder: what a watcher did, on virtual time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from asyncstore import Asset, connect
from triggers import AssetWatcher, BaseEventTrigger, InvalidTriggerError, TriggerEvent
from triggers.pacing import Backoff
from triggers.testing import VirtualEventLoop, run_virtual, run_watcher

from . import watchers
from .watchers import HOUR, Checkpointed, Clocks, Endless, Fails, Keyed, WritesAfter

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualEventLoop}


async def test_it_tells_events_and_what_was_committed_with_them() -> None:
    async with run_watcher(Checkpointed(upto=3)) as watching:
        events = await watching.wait_done()
    assert [event.payload for event in events] == watching.payloads == [1, 2, 3]
    commits = watching.recording.commits
    assert [(each.at, each.event and each.event.payload) for each in commits] == [
        (HOUR, 1),
        (2 * HOUR, 2),
        (3 * HOUR, 3),
    ]
    assert [str(write) for each in commits for write in each.writes] == [
        f"watched['watermark'] = {n}" for n in (1, 2, 3)
    ]
    assert watching.recording.history("watermark") == [1, 2, 3]
    assert watching.recording.plain_writes == []
    assert watching.errors == []


async def test_it_tells_writes_that_went_by_themselves() -> None:
    async with run_watcher(WritesAfter()) as watching:
        await watching.wait_done()
        assert await watching.state() == {"watermark": 3}
    assert [each.event is None for each in watching.recording.commits] == [False, True] * 3
    assert str(watching.recording.plain_writes[0]) == "0 s: write watched['watermark'] = 1"
    assert watching.recording.history("watermark") == [1, 2, 3]


async def test_it_restarts_and_goes_on_from_the_state() -> None:
    async with run_watcher(Endless()) as watching:
        await watching.wait_events(3)
        await watching.restart()
        await watching.wait_events(5)
        await watching.stop()
        stopped = len(watching.payloads)
        await anyio.sleep(HOUR)
        assert not watching.running
        assert watching.payloads == list(range(1, stopped + 1))
        watching.start()
        await watching.wait_events(stopped + 1)
        assert watching.recording.attempts == 3


async def test_it_tells_failures_and_keys_that_were_known() -> None:
    async with run_watcher(Fails()) as watching:
        assert [str(error) for error in await watching.wait_failures(2)] == ["after 1", "after 2"]
        await watching.wait_done()
    assert watching.payloads == [1, 2, 3]
    assert watching.recording.attempts == 3
    assert "attempt 1 raised RuntimeError: after 1 (" in str(watching.recording)
    async with run_watcher(Keyed()) as watching:
        await watching.wait_done()
        await watching.restart()
        await watching.wait_done()
    assert watching.payloads == [1, 2, 3]
    assert [each.duplicate for each in watching.recording.commits] == [False] * 3 + [True] * 3


async def test_a_wait_in_vain_says_what_came_instead() -> None:
    async with run_watcher(AssetWatcher("hourly", Checkpointed()), asset=Asset("numbers", "s3://n")) as watching:
        with pytest.raises(
            AssertionError, match=r"waited 9000 s for 5 events\nwatcher 'hourly' of asset 'numbers': 2 events"
        ):
            await watching.wait_events(5, timeout=2.5 * HOUR)
        assert repr(watching) == "<Watching 'hourly' of 'numbers': running, 2 events>"
        with pytest.raises(AssertionError, match=r"it ended before 5 events came"):
            await watching.wait_events(5)
        assert repr(watching) == "<Watching 'hourly' of 'numbers': stopped, 4 events>"


async def test_the_module_of_the_watcher_reads_virtual_time() -> None:
    async with run_watcher(Clocks()) as watching:
        await watching.wait_done()
    assert watching.payloads == [[HOUR] * 6 + [True]]
    assert vars(watchers)["time"] is time


async def test_two_watchers_of_one_class_on_one_store_are_told_apart() -> None:
    first, second = Asset("first"), Asset("second")
    async with connect("sqlite+aiosqlite:///:memory:") as store:
        run = Checkpointed.run
        one, other = (
            run_watcher(Checkpointed(upto=2), asset=first, store=store),
            run_watcher(Checkpointed(upto=4), asset=second, store=store),
        )
        earlier, later = await one.__aenter__(), await other.__aenter__()
        await earlier.wait_done()
        await one.__aexit__(None, None, None)
        await later.wait_done()
        await other.__aexit__(None, None, None)
        assert (earlier.payloads, later.payloads) == ([1, 2], [1, 2, 3, 4])
        assert (earlier.recording.attempts, later.recording.attempts) == (1, 1)
        assert Checkpointed.run is run
        assert "acommit" not in vars(store.backend)


async def test_an_inherited_run_is_heard_and_left_alone() -> None:
    class Heir(Fails):
        pass

    async with run_watcher(Heir()) as watching:
        await watching.wait_failures(1)
    assert "run" not in vars(Heir)


def test_it_works_in_real_time_too() -> None:
    async def main() -> None:
        async with run_watcher(WritesAfter()) as watching:
            await watching.wait_events(3, timeout=20)
            await watching.wait_done(timeout=20)

    asyncio.run(main())


@pytest.mark.filterwarnings("ignore::asyncstore.BlockingCallWarning")
async def test_sync_writes_and_clears_are_recorded() -> None:
    class Sync(BaseEventTrigger):
        async def run(self) -> AsyncIterator[TriggerEvent]:
            self.asset_state.set("a", 1)
            await anyio.to_thread.run_sync(self.asset_state.set, "b", 2)
            self.asset_state.delete("a")
            await self.asset_state.aclear()
            yield TriggerEvent("done")

    async with run_watcher(Sync()) as watching:
        await watching.wait_done()
    told = [str(write) for each in watching.recording.commits for write in each.writes]
    assert told == ["watched['a'] = 1", "watched['b'] = 2", "watched['a'] deleted", "watched: cleared"]
    assert watching.recording.history("a") == [1, None, None]


async def test_what_cannot_be_run_is_refused_at_once() -> None:
    class NoGenerator(BaseEventTrigger):
        async def run(self) -> Any:  # type: ignore[override]
            return None

    with pytest.raises(InvalidTriggerError, match="no async generator"):
        async with run_watcher(NoGenerator()):
            pass


async def test_an_error_of_the_test_comes_through_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        async with run_watcher(Endless()):
            raise ZeroDivisionError


async def _times_of_failures() -> list[float]:
    async with run_watcher(Fails()) as watching:
        await watching.wait_done()
        return [failure.at for failure in watching.recording.failures]


async def _delays() -> list[float]:
    backoff = Backoff(1.0, 64.0)
    return [backoff.next() for _ in range(8)]


def test_delays_are_the_same_in_every_run() -> None:
    assert len(set(map(tuple, (run_virtual(_times_of_failures) for _ in range(2))))) == 1
    first = run_virtual(_delays)
    assert first == run_virtual(_delays)
    # They are jittered still: whatever failed together does not come back together.
    assert len({delay / 2**number for number, delay in enumerate(first[:6])}) == 6
    assert asyncio.run(_delays()) != asyncio.run(_delays())
