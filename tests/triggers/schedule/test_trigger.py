"""Ticks on virtual time: restarts, missed ones, clocks that are set, and crashes."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import anyio
import pytest

from triggers import ScheduleTrigger
from triggers.testing import Fault, VirtualEventLoop, Watching, crash_everywhere_sync, run_watcher, virtual_clock

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualEventLoop}


def told(watching: Watching) -> list[str]:
    return [payload["scheduled_at"][11:19] for payload in watching.payloads]


def set_clock(seconds: float) -> None:
    clock = virtual_clock()
    assert clock is not None
    clock.advance(timedelta(seconds=seconds))


async def test_each_tick_is_an_event_with_its_time_as_key() -> None:
    async with run_watcher(ScheduleTrigger("cron:*/5 * * * *", timezone="Europe/Berlin")) as watching:
        events = await watching.wait_events(2)
    assert [(event.key, event.payload) for event in events] == [
        (
            "schedule:2026-01-01T00:05:00+00:00",
            {
                "scheduled_at": "2026-01-01T01:05:00+01:00",
                "previous_at": None,
                "schedule": "cron:*/5 * * * *",
                "timezone": "Europe/Berlin",
            },
        ),
        (
            "schedule:2026-01-01T00:10:00+00:00",
            {
                "scheduled_at": "2026-01-01T01:10:00+01:00",
                "previous_at": "2026-01-01T01:05:00+01:00",
                "schedule": "cron:*/5 * * * *",
                "timezone": "Europe/Berlin",
            },
        ),
    ]
    assert [commit.at for commit in watching.recording.commits if commit.event] == [300.0, 600.0]
    assert watching.recording.history("schedule/watermark") == [
        "2026-01-01T00:05:00+00:00",
        "2026-01-01T00:10:00+00:00",
    ]


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [
        ("all", ["01:00:00", "02:00:00", "03:00:00", "04:00:00"]),
        ("latest", ["01:00:00", "03:00:00", "04:00:00"]),
        ("none", ["01:00:00", "04:00:00"]),
    ],
)
async def test_what_was_missed_while_it_was_stopped(catch_up: str, expected: list[str]) -> None:
    async with run_watcher(ScheduleTrigger("every:1h", catch_up=catch_up)) as watching:
        await watching.wait_events(1)
        await watching.stop()
        await anyio.sleep(2.5 * 3600)
        watching.start()
        await watching.wait_events(len(expected))
    assert told(watching) == expected


async def test_none_still_tells_a_tick_that_is_a_little_late() -> None:
    async with run_watcher(ScheduleTrigger("every:1h", catch_up="none")) as watching:
        await watching.wait_events(1)
        await watching.stop()
        await anyio.sleep(3650)
        watching.start()
        await watching.wait_events(2)
    assert told(watching) == ["01:00:00", "02:00:00"]


async def test_missed_ticks_are_bounded_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "triggers"):
        async with run_watcher(
            ScheduleTrigger("every:1s", catch_up="all", limit=3, start="2020-01-01T00:00", once=True)
        ) as watching:
            await watching.wait_done()
    assert told(watching) == ["23:59:58", "23:59:59", "00:00:00"]
    assert "more than 3" in caplog.text


async def test_a_machine_that_slept_tells_what_it_missed_soon_after() -> None:
    async with run_watcher(ScheduleTrigger("cron:0 * * * *", catch_up="all")) as watching:
        await anyio.sleep(1.0)
        set_clock(3 * 3600)  # its monotonic clock stood still meanwhile
        await watching.wait_events(3, timeout=31.0)
    assert told(watching) == ["01:00:00", "02:00:00", "03:00:00"]


async def test_a_clock_that_goes_back_repeats_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "triggers"):
        async with run_watcher(ScheduleTrigger("every:1m")) as watching:
            await watching.wait_events(3)
            set_clock(-150)
            await watching.restart()
            await watching.wait_events(4)
    assert told(watching) == ["00:01:00", "00:02:00", "00:03:00", "00:04:00"]
    assert len([record for record in caplog.records if "the clock says" in record.message]) == 1


async def test_start_and_end() -> None:
    trigger = ScheduleTrigger("every:1h", start="2026-01-01T00:30", end="2026-01-01T03:00Z")
    async with run_watcher(trigger) as watching:
        await watching.wait_done()
    assert told(watching) == ["00:30:00", "01:30:00", "02:30:00"]


async def test_the_first_tick_of_the_past_is_that_of_the_start() -> None:
    trigger = ScheduleTrigger("every:6h", start="2025-12-31T12:00", end="2026-01-01T00:00", catch_up="all")
    async with run_watcher(trigger) as watching:
        await watching.wait_done()
    assert told(watching) == ["12:00:00", "18:00:00", "00:00:00"]


async def test_jitter_shifts_all_ticks_of_an_asset_alike() -> None:
    async with run_watcher(ScheduleTrigger("every:1h", jitter=600.0)) as watching:
        await watching.wait_events(1)
        await watching.restart()
        await watching.wait_events(2)
    first, second = (commit.at for commit in watching.recording.commits if commit.event)
    assert second - first == pytest.approx(3600)
    assert 0 < first % 3600 < 600
    assert told(watching)[0][2:] == ":00:00"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"timezone": "Mars/Phobos"}, "time zone"),
        ({"catch_up": "some"}, "catch_up"),
        ({"limit": 0}, "limit"),
        ({"jitter": -1.0}, "jitter"),
        ({"start": "soon"}, "is no moment"),
        ({"start": "0001-01-01"}, "is no moment"),
        ({"end": "0001-01-01T00:00+01:00"}, "is no moment"),
        ({"start": "2026-01-02", "end": "2026-01-01"}, "end must not be before"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_runs(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ScheduleTrigger("every:1s", **options)


def test_every_tick_is_told_once_whenever_it_is_killed() -> None:
    report = crash_everywhere_sync(
        lambda: ScheduleTrigger("every:1m", catch_up="all", start="2026-01-01T00:00", end="2026-01-01T00:06"),
        identify=lambda payload: payload["scheduled_at"],
        expected=[{"scheduled_at": f"2026-01-01T00:{minute:02}:00+00:00"} for minute in range(7)],
        faults=list(Fault),
        downtime=90.0,
        again=range(1, 4),
    )
    report.check()


def test_a_watcher_killed_before_its_first_tick_has_begun_when_it_began() -> None:
    report = crash_everywhere_sync(
        lambda: ScheduleTrigger("every:1h", end="2026-01-01T01:00"),
        identify=lambda payload: payload["scheduled_at"],
        expected=[{"scheduled_at": "2026-01-01T01:00:00+00:00"}],
        downtime=1800.0,
    )
    report.check()
