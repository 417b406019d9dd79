"""Where the time comes from, so that tests can move it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

__all__ = ["Clock", "ManualClock", "SystemClock", "from_microseconds", "to_microseconds"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Clock(Protocol):
    """Tell the time by which values expire."""

    def microseconds(self) -> int:
        """Return the time as microseconds since 1970-01-01T00:00:00Z."""
        ...


class SystemClock:
    """Read the system's clock."""

    def microseconds(self) -> int:
        """Return the system's time as microseconds since 1970-01-01T00:00:00Z."""
        return time.time_ns() // 1000


class ManualClock:
    """Stand still until told to move; for tests.

    :param start: where it begins.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = to_microseconds(start)

    def microseconds(self) -> int:
        """Return where the clock stands, as microseconds since 1970-01-01T00:00:00Z."""
        return self._now

    def advance(self, by: timedelta) -> None:
        """Move the clock.

        :param by: how far; negative moves it back.
        """
        self._now += by // _MICROSECOND


def to_microseconds(moment: datetime) -> int:
    """Convert an aware datetime to microseconds since 1970-01-01T00:00:00Z, exactly.

    :param moment: an aware datetime.
    :raises ValueError: the datetime has no time zone.
    """
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise ValueError(f"{moment!r} has no time zone; use datetime.now(UTC), or moment.replace(tzinfo=UTC)")
    return (moment - _EPOCH) // _MICROSECOND


def from_microseconds(value: int) -> datetime:
    """Convert microseconds since 1970-01-01T00:00:00Z to an aware datetime in UTC.

    :param value: the microseconds.
    """
    return _EPOCH + value * _MICROSECOND
