from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncstore import NEVER_EXPIRE, ManualClock
from asyncstore.clock import SystemClock, from_microseconds, to_microseconds
from asyncstore.retention import expiry

START = datetime(2026, 1, 1, tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)
DAY = timedelta(days=1)


def at(start: datetime = START) -> ManualClock:
    return ManualClock(start)


@given(st.timedeltas(timedelta(microseconds=1), LAST - START))
def test_it_ends_exactly_so_long_from_now_in_utc(retention: timedelta) -> None:
    end = expiry(retention, None, at())
    assert end == START + retention
    assert end is not None
    assert end.tzinfo is UTC
    assert expiry(retention, DAY, at()) == end


@given(st.timedeltas(timedelta(microseconds=1), LAST - START))
def test_left_out_the_default_counts_from_now(default: timedelta) -> None:
    clock = at()
    assert expiry(None, default, clock) == START + default
    clock.advance(-DAY)
    assert expiry(None, default, clock) == START + default - DAY


def test_never() -> None:
    assert expiry(NEVER_EXPIRE, DAY, at()) is None
    assert expiry(timedelta.max, DAY, at()) is None  # by equality
    assert expiry(pickle.loads(pickle.dumps(NEVER_EXPIRE)), DAY, at()) is None
    assert expiry(None, None, at()) is None
    assert timedelta.max == NEVER_EXPIRE


class Days(timedelta):
    """A timedelta of another library's."""


def test_a_subclass_of_timedelta() -> None:
    assert expiry(Days(days=2), None, at()) == START + 2 * DAY


@given(st.timedeltas(timedelta(days=-999999999), timedelta(0)))
def test_zero_and_less_are_refused(retention: timedelta) -> None:
    with pytest.raises(ValueError, match=r"must be longer than zero, not .*; to remove a value use delete"):
        expiry(retention, DAY, at())


@given(st.timedeltas(LAST - START + timedelta(microseconds=1), timedelta.max - timedelta(microseconds=1)))
def test_what_ends_after_the_last_date_is_refused(retention: timedelta) -> None:
    with pytest.raises(ValueError, match="ends after the year 9999; use NEVER_EXPIRE"):
        expiry(retention, None, at())


def test_the_last_date_itself() -> None:
    assert expiry(LAST - START, None, at()) == LAST


@given(
    st.one_of(
        st.integers(),
        st.floats(),
        st.booleans(),
        st.text(),
        st.datetimes(),
        st.lists(st.integers()),
        st.just(timedelta),
        st.decimals(),
    )
)
def test_other_types_are_refused(retention: Any) -> None:
    with pytest.raises(TypeError, match=r"must be a timedelta, NEVER_EXPIRE or None, not \w+; write timedelta\(days"):
        expiry(retention, DAY, at())


# The clock that it is computed by.


@given(st.integers(to_microseconds(datetime.min.replace(tzinfo=UTC)), to_microseconds(LAST)))
def test_microseconds_are_exact_both_ways(value: int) -> None:
    moment = from_microseconds(value)
    assert moment.tzinfo is UTC
    assert to_microseconds(moment) == value


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1)), st.integers(-23 * 60, 23 * 60))
def test_a_moment_is_the_same_in_every_time_zone(moment: datetime, minutes: int) -> None:
    there = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert from_microseconds(to_microseconds(there)) == there


def test_a_moment_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match=r"has no time zone; use datetime\.now\(UTC\)"):
        to_microseconds(datetime(2026, 1, 1))


def test_the_systems_clock() -> None:
    before = datetime.now(UTC)
    now = from_microseconds(SystemClock().microseconds())
    assert before - timedelta(seconds=1) <= now <= datetime.now(UTC) + timedelta(seconds=1)
