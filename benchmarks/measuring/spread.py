"""Several rounds of one figure: the median, the least and the most."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from .loop import Sample

__all__ = ["Spread", "ratios"]


@dataclass(frozen=True, slots=True)
class Spread:
    """Hold what several rounds gave.

    :ivar median: the middle one.
    :ivar least: the smallest.
    :ivar most: the largest.
    """

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Sum up at least one value."""
        found = list(values)
        return cls(statistics.median(found), min(found), max(found))

    @property
    def data(self) -> dict[str, float]:
        """Return it for JSON."""
        return {"median": self.median, "least": self.least, "most": self.most}


def ratios(ours: list[Sample], theirs: list[Sample]) -> Spread | None:
    """Compare the rates of each round with those of the same round, so that a machine's moods fall out.

    :return: ours divided by theirs; None where one of them has no figures.
    """
    pairs = list(zip(ours, theirs, strict=False))
    return Spread.of(mine.rate / other.rate for mine, other in pairs) if pairs else None
