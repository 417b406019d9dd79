"""How long a full stream waits for whom, on virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio

from triggers import TriggerEvent
from triggers.testing import run_virtual

from .broker import Broker, counts
from .support import Messages, Numbers, World, driver


class Leaving(Messages):
    """Answers every message, or the first alone, and is away."""

    async def filter_shared_stream(self, stream: AsyncIterator[int]) -> AsyncIterator[TriggerEvent]:
        async for number in stream:
            yield TriggerEvent(number, key=str(number))
            if self.name == "away":
                return


async def _wait_for_one_that_was_away() -> None:
    Numbers.world = World()
    broker = Messages.broker = Broker()
    async with driver(2, patience=60.0) as drive, anyio.create_task_group() as tasks:
        for trigger in (Leaving("here"), Leaving("away")):
            drive.hub.expect(trigger.name, trigger)
        tasks.start_soon(drive.keep, Leaving("here"))
        broker.publish(1)
        await drive.attempt(Leaving("away"))
        await anyio.sleep(3600)
        assert [counts(item) for item in broker.items] == [(1, 2, 0, 0)]
        broker.publish(2, 3, 4)
        await anyio.sleep(59)
        assert len(broker.items) == 1
        await anyio.sleep(2)
        assert [counts(item) for item in broker.items[1:2]] == [(2, 1, 0, 1)]
        tasks.cancel_scope.cancel()


async def _fail_for_one_that_is_stuck() -> None:
    Numbers.world = World()
    broker = Messages.broker = Broker()
    async with driver(10, patience=60.0) as drive, anyio.create_task_group() as tasks:
        for trigger in (Leaving("here"), Leaving("away")):
            drive.hub.expect(trigger.name, trigger)
        tasks.start_soon(drive.keep, Leaving("here"))
        broker.publish(*range(1, 41))  # this broker delivers again what failed as soon as it hears of it
        await anyio.sleep(60)
        for minute in range(1, 11):
            await anyio.sleep(60)
            assert len(broker.items) in range(10 * minute, 10 * minute + 3)
        assert drive.committed == {"here": list(range(1, 41))}
        assert all(item.failed for item in broker.items)
        tasks.cancel_scope.cancel()


def test_patience_begins_when_something_is_given_and_not_when_something_was_answered_long_ago() -> None:
    run_virtual(_wait_for_one_that_was_away)


def test_what_is_failed_for_a_stuck_watcher_is_not_delivered_round_and_round() -> None:
    run_virtual(_fail_for_one_that_is_stuck)
