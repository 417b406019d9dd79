"""A logarithmic axis."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Axis"]


@dataclass(frozen=True, slots=True)
class Axis:
    """Map values to places, evenly in their logarithms.

    :ivar low: the smallest value, above 0.
    :ivar high: the largest one.
    :ivar start: where the smallest one is.
    :ivar end: where the largest one is.
    """

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def rounded(cls, low: float, high: float, start: float, end: float) -> Axis:
        """Give an axis that ends at round values around the given ones."""
        below = [value for value in _round_values(low / 10, low) if value <= low]
        above = [value for value in _round_values(high, high * 10) if value >= high]
        return cls(below[-1], above[0] if above[0] > below[-1] else above[1], start, end)

    def __call__(self, value: float) -> float:
        """Give the place of a value."""
        if self.high <= self.low:
            return (self.start + self.end) / 2
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        """Return round values along the axis: few enough to read."""
        found = _round_values(self.low, self.high)
        return found if len(found) <= 12 else [value for value in found if f"{value:e}"[0] == "1"]


def _round_values(low: float, high: float) -> list[float]:
    """Give 1, 2 and 5 times the powers of ten from one value to another."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    values = [float(f"{digit}e{power}") for power in range(first, last + 1) for digit in (1, 2, 5)]
    return [value for value in values if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
