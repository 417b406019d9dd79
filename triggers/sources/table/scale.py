"""How far back on a column: what kinds of columns grow, and what lies a window before a value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

__all__ = ["OVERLAPS", "Scale"]

#: The usual window of each kind of column: numbers, seconds and days. There is no distance between two texts.
OVERLAPS = {"number": 1000.0, "moment": 60.0, "day": 1.0, "text": 0.0}


@dataclass(frozen=True, slots=True)
class Scale:
    """Compare the values of a column, and go back on it.

    :ivar kind: `number`, `moment`, `day` or `text`.
    :ivar overlap: the window, in units of the column, seconds or days.
    :ivar least: no integer below is given; None for any.
    """

    kind: str
    overlap: float
    least: int | None = None

    def before(self, value: Any) -> Any:
        """Give what lies a window before a value.

        SQLite keeps moments as text (or as numbers of whatever unit); of such a text it gives the beginning of an
        earlier one, for texts are compared.

        :param value: a value of the column.
        """
        if self.overlap == 0 or self.kind == "text":
            return value
        match value:
            case str():
                return self._before_text(value)
            case datetime():
                return _earlier(value, self.overlap)
            case date():
                return value - min(timedelta(days=math.ceil(self.overlap)), value - date.min)
            case Decimal():
                return value - Decimal(str(self.overlap))
            case int():
                return self._bounded(value - math.ceil(self.overlap))
            case float():
                return value - self.overlap
            case _:
                return value

    def _bounded(self, value: int) -> int:
        return value if self.least is None else max(self.least, value)

    def _before_text(self, text: str) -> str:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return text
        earlier = _earlier(moment, self.overlap * (86_400 if self.kind == "day" else 1))
        day = earlier.date().isoformat()
        return day if len(text) <= len(day) else f"{day}{text[len(day)]}{earlier.time().isoformat('seconds')}"

    def is_less(self, one: Any, other: Any) -> bool:
        """Tell whether a value is less than another; never of a text column, which only its database compares.

        :param one: a value.
        :param other: another one.
        """
        if self.kind == "text":
            return False
        # As SQLite has it, which keeps both in one column: numbers come before texts.
        return bool((isinstance(one, str), one) < (isinstance(other, str), other))

    def later(self, one: Any, other: Any) -> Any:
        """Give the later one of two values; of texts, the second.

        :param one: a value.
        :param other: another one.
        """
        return one if self.is_less(other, one) else other

    def parse(self, text: Any, *, raw: bool, aware: bool) -> Any:
        """Read a value that a user gave.

        :param text: a number, or a text.
        :param raw: the database keeps what it is given (SQLite), so that a moment stays a text.
        :param aware: the column has time zones; a moment without one is UTC.
        :raises ValueError: it is no value of the column.
        """
        if self.kind == "number":
            value = Decimal(str(text))
            if not value.is_finite():
                raise ValueError(text)
            if value == value.to_integral_value() or (self.least is not None and not raw):
                return self._bounded(math.ceil(value))
            return float(value) if raw else value
        if raw or self.kind == "text":
            return str(text)
        if self.kind == "day":
            return date.fromisoformat(str(text))
        moment = datetime.fromisoformat(str(text))
        if aware:
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _earlier(moment: datetime, seconds: float) -> datetime:
    try:
        return moment - timedelta(seconds=seconds)
    except OverflowError:
        return datetime.min.replace(tzinfo=moment.tzinfo)
