"""When a schedule has its ticks. No clock is read here."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import takewhile
from typing import Any, final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

__all__ = ["Schedule", "latest_ticks", "parse_schedule", "parse_zone"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Seconds of a week, a day, an hour, a minute and a second.
_UNITS = (604_800, 86_400, 3600, 60, 1)
_DURATION = re.compile(r"(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_NAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class Schedule(ABC):
    """Know when the ticks are."""

    @abstractmethod
    def after(self, moment: datetime) -> Iterator[datetime]:
        """Give the ticks after a moment, each later than the one before, in the zone of the schedule.

        :param moment: with a time zone.
        """

    @abstractmethod
    def __str__(self) -> str:
        """Give the schedule as it is written."""


@final
class _Every(Schedule):
    """Have a tick in equal distances, counted from a moment: what clocks and calendars do does not matter."""

    def __init__(self, seconds: int, text: str, zone: tzinfo, anchor: datetime) -> None:
        self._step = timedelta(seconds=seconds)
        self._text = text
        self._zone = zone
        self._anchor = anchor.astimezone(UTC)  # two moments of one zone are subtracted as its clocks show them

    def __str__(self) -> str:
        return f"every:{self._text}"

    def after(self, moment: datetime) -> Iterator[datetime]:
        number = (moment - self._anchor) // self._step + 1
        while True:
            yield (self._anchor + number * self._step).astimezone(self._zone)
            number += 1


@final
class _Cron(Schedule):
    """Have ticks as cron of Debian does, in a time zone."""

    def __init__(self, expression: str, zone: tzinfo) -> None:
        self._expression = expression
        self._zone = zone
        self._cron: Any = _cronsim()
        if next(self.after(_EPOCH), None) is None:
            raise ValueError(f"cron:{expression} never comes")

    def __str__(self) -> str:
        return f"cron:{self._expression}"

    def after(self, moment: datetime) -> Iterator[datetime]:
        last = moment
        try:
            for tick in self._cron.CronSim(self._expression, moment.astimezone(self._zone)):
                # When clocks go forward, several ticks may fall on the first moment that there is; when they go back,
                # one may be given whose first time is over.
                if tick.astimezone(UTC) > last.astimezone(UTC):
                    last = tick
                    yield tick
        except OverflowError:  # no calendar goes on
            return


def parse_schedule(text: str, zone: tzinfo = UTC, anchor: datetime | None = None) -> Schedule:
    """Read a schedule.

    :param text: `every:30s`, `every:1h30m`, `cron:*/5 * * * *`, `cron:@daily`, or the expression alone.
    :param zone: the time zone of the expression.
    :param anchor: from when on equal distances are counted; 1970-01-01T00:00Z by default.
    :raises ValueError: it is none, or one that never comes.
    """
    scheme, colon, rest = text.partition(":")
    kind, rest = (scheme.lower(), rest.strip()) if colon else ("cron", text.strip())
    if kind == "every":
        found = _DURATION.fullmatch(rest.replace(" ", ""))
        numbers = found.groups() if found else ()
        seconds = sum(int(number or 0) * unit for number, unit in zip(numbers, _UNITS, strict=False))
        if seconds > 10 * 366 * 86_400:
            raise ValueError(f"every:{rest} is longer than ten years")
        if seconds < 1:
            raise ValueError(f"every:{rest} is no distance; write every:30s, every:5m, every:1h30m or every:1d")
        return _Every(seconds, rest.replace(" ", ""), zone, anchor or _EPOCH)
    if kind != "cron":
        raise ValueError(f"{text!r} is no schedule; write cron:'*/5 * * * *' or every:30s")
    expression = _NAMES.get(rest.lower(), " ".join(rest.split()))
    _check(expression)
    return _Cron(expression, zone)


def parse_zone(name: str) -> tzinfo:
    """Give a time zone.

    :param name: as in `Europe/Berlin`; `UTC`.
    :raises ValueError: it is not known here.
    """
    if name.upper() == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"time zone {name!r} is not known here; write one as Europe/Berlin, and where the system has none: "
            "pip install tzdata"
        ) from None


def latest_ticks(schedule: Schedule, after: datetime, until: datetime, count: int) -> tuple[list[datetime], bool]:
    """Give the latest ticks of a time, however long it is, without going through all of it.

    :param schedule: the schedule.
    :param after: ticks after this moment.
    :param until: ticks until this moment, itself included.
    :param count: how many at most.
    :return: the ticks in their order, and whether there were more before them.
    """
    span = timedelta(hours=1)
    while True:
        whole = until - after <= span
        begin = after if whole else until - span
        found: deque[datetime] = deque(maxlen=count + 1)
        found.extend(takewhile(lambda tick: tick <= until, schedule.after(begin)))
        if whole or len(found) > count:
            return list(found)[-count:], len(found) > count
        span *= 4


def _check(expression: str) -> None:
    try:
        _cronsim().CronSim(expression, _EPOCH)
    except Exception as error:
        if isinstance(error, ValueError):
            raise
        raise ValueError(
            f"cron:{expression} cannot be read: {str(error) or 'no such field'}; write minute, hour, day of the month, "
            "month and day of the week, as in '30 9 * * MON-FRI'"
        ) from None


def _cronsim() -> Any:
    try:
        import cronsim
    except ImportError:
        raise ValueError(
            "schedules of cron need cronsim, which is not installed: pip install 'asyncstore[schedule]'"
        ) from None
    return cronsim
