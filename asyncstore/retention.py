"""How long task state is kept."""

from __future__ import annotations

from datetime import datetime, timedelta

from .clock import Clock, from_microseconds

__all__ = ["NEVER_EXPIRE", "expiry"]

#: Pass as `retention` to keep a value until it is deleted. Compared by equality, so it survives pickling.
NEVER_EXPIRE = timedelta.max

_MICROSECOND = timedelta(microseconds=1)
_ZERO = timedelta(0)


def expiry(retention: object, default: timedelta | None, clock: Clock) -> datetime | None:
    """Turn a retention into the moment from which the value is absent.

    :param retention: a positive timedelta, `NEVER_EXPIRE`, or None for the default.
    :param default: the configured retention; None where values never expire by default.
    :param clock: tells now.
    :return: an aware datetime in UTC, or None for never.
    :raises TypeError: the retention is anything else.
    :raises ValueError: it is zero, negative, or ends after the year 9999.
    """
    if retention is None:
        if default is None:
            return None
        retention = default
    elif not isinstance(retention, timedelta):
        raise TypeError(
            f"retention must be a timedelta, NEVER_EXPIRE or None, not {type(retention).__name__}; "
            "write timedelta(days=...) or timedelta(seconds=...)"
        )
    if retention == NEVER_EXPIRE:
        return None
    if retention <= _ZERO:
        raise ValueError(f"retention must be longer than zero, not {retention}; to remove a value use delete")
    try:
        return from_microseconds(clock.microseconds() + retention // _MICROSECOND)
    except OverflowError:
        raise ValueError(
            f"retention {retention} ends after the year 9999; use NEVER_EXPIRE to keep a value for good"
        ) from None
