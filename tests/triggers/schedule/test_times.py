"""When ticks are, through gaps and folds of the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise, takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triggers.sources.schedule.times import latest_ticks, parse_schedule, parse_zone

BERLIN = parse_zone("Europe/Berlin")


def ticks(text: str, begin: str, count: int = 3, zone: str = "UTC") -> list[str]:
    found = parse_schedule(text, parse_zone(zone)).after(datetime.fromisoformat(begin))
    return [tick.isoformat() for tick in islice(found, count)]


def test_distances_are_counted_from_1970_or_from_where_one_says() -> None:
    assert ticks("every:30s", "2026-01-01T00:00:10Z", 2) == ["2026-01-01T00:00:30+00:00", "2026-01-01T00:01:00+00:00"]
    assert ticks("every:1h30m", "2026-01-01T00:00:00Z", 1) == ["2026-01-01T01:30:00+00:00"]
    anchored = parse_schedule("every:1d", UTC, datetime(2026, 1, 1, 9, tzinfo=UTC))
    assert next(anchored.after(datetime(2026, 1, 5, 9, tzinfo=UTC))) == datetime(2026, 1, 6, 9, tzinfo=UTC)


def test_distances_from_a_moment_of_a_zone_go_on_through_changes_of_its_clocks() -> None:
    schedule = parse_schedule("every:1h", BERLIN, datetime(2026, 3, 1, tzinfo=BERLIN))
    for begin in (datetime(2026, 3, 28, 23, tzinfo=UTC), datetime(2026, 10, 24, 23, tzinfo=UTC)):
        moment = begin
        for hours in range(1, 6):
            moment = next(schedule.after(moment))
            assert moment.astimezone(UTC) == begin + timedelta(hours=hours)


def test_expressions() -> None:
    assert ticks("cron:*/5 * * * *", "2026-01-01T00:04:59.5Z", 2) == [
        "2026-01-01T00:05:00+00:00",
        "2026-01-01T00:10:00+00:00",
    ]
    assert ticks("30 9 * * MON-FRI", "2026-01-02T12:00:00Z", 1) == ["2026-01-05T09:30:00+00:00"]
    assert ticks("cron:@daily", "2026-01-01T00:00:00Z", 1) == ["2026-01-02T00:00:00+00:00"]
    assert ticks("cron:*/20 * * * * *", "2026-01-01T00:00:20Z", 1) == ["2026-01-01T00:00:40+00:00"]


def test_a_time_that_the_clock_passes_over_is_the_first_moment_behind_the_gap() -> None:
    # In Berlin the 29th of March 2026 has no time from 2 to 3.
    assert ticks("30 2 * * *", "2026-03-28T12:00:00Z", 2, "Europe/Berlin") == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:30:00+02:00",
    ]
    assert ticks("15,45 2 * * *", "2026-03-28T12:00:00Z", 2, "Europe/Berlin") == [
        "2026-03-29T03:00:00+02:00",  # once
        "2026-03-30T02:15:00+02:00",
    ]
    assert ticks("*/30 * * * *", "2026-03-29T00:30:00Z", 2, "Europe/Berlin") == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-29T03:30:00+02:00",
    ]


def test_a_time_that_the_clock_has_twice_is_one_tick_and_a_distance_goes_on() -> None:
    # In Berlin the 25th of October 2026 has 2 to 3 twice.
    for begin in ("2026-10-24T12:00:00Z", "2026-10-25T00:15:00Z"):
        assert ticks("30 2 * * *", begin, 2, "Europe/Berlin") == [
            "2026-10-25T02:30:00+02:00",
            "2026-10-26T02:30:00+01:00",
        ]
    assert ticks("30 2 * * *", "2026-10-25T01:15:00Z", 1, "Europe/Berlin") == ["2026-10-26T02:30:00+01:00"]
    assert ticks("*/30 * * * *", "2026-10-25T00:00:00Z", 4, "Europe/Berlin") == [
        "2026-10-25T02:30:00+02:00",
        "2026-10-25T02:00:00+01:00",
        "2026-10-25T02:30:00+01:00",
        "2026-10-25T03:00:00+01:00",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cron:61 * * * *", "Bad minute"),
        ("cron:* * *", "Wrong number of fields"),
        ("cron:0 0 30 2 *", "cannot be read"),
        ("cron:0 0 29 2 MON#9", "cannot be read"),
        ("every:", "is no distance"),
        ("every:0s", "is no distance"),
        ("every:5x", "is no distance"),
        ("every:99999999w", "longer than ten years"),
        ("at:noon", "is no schedule"),
        ("", "cannot be read"),
    ],
)
def test_what_is_no_schedule_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_schedule(text)


def test_an_unknown_zone_is_refused() -> None:
    for name in ("Europe/Atlantis", "", "../etc/passwd"):
        with pytest.raises(ValueError, match="is not known here"):
            parse_zone(name)


MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)).map(lambda moment: moment.replace(tzinfo=UTC))
TEXTS = st.sampled_from(
    ["*/7 * * * *", "30 2 * * *", "0 3 29 2 *", "15 1-3 * * SUN", "0 0 1 * *", "every:40m", "59 59 * * * *"]
)


@settings(deadline=None, max_examples=50)
@given(TEXTS, MOMENTS, st.timedeltas(timedelta(0), timedelta(days=60)), st.integers(1, 5))
def test_the_latest_ticks_are_the_last_of_all(text: str, begin: datetime, length: timedelta, count: int) -> None:
    schedule = parse_schedule(text, BERLIN)
    every = list(takewhile(lambda tick: tick <= begin + length, schedule.after(begin)))
    assert all(one.astimezone(UTC) < other.astimezone(UTC) for one, other in pairwise(every))
    assert latest_ticks(schedule, begin, begin + length, count) == (every[-count:], len(every) > count)


def test_the_latest_of_very_many_are_found_without_counting_them() -> None:
    schedule = parse_schedule("* * * * * *")
    until = datetime(2026, 1, 1, tzinfo=UTC)
    found, is_cut = latest_ticks(schedule, datetime(1990, 1, 1, tzinfo=UTC), until, 2)
    assert (found, is_cut) == ([until - timedelta(seconds=1), until], True)
