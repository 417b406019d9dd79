"""What a section gives: tables for people, verdicts on targets, charts, and data for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..measuring.spread import Spread

__all__ = ["Chart", "Line", "Ranges", "SectionReport", "Table", "Verdict"]


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it is printed.

    :ivar title: what it shows.
    :ivar header: the names of the columns.
    :ivar rows: the cells.
    :ivar notes: how to read it, a line each.
    """

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target beside what was found.

    :ivar target: what is compared, the same text for every column.
    :ivar column: under which conditions: a concurrency, mostly.
    :ivar found: the ratio, over the rounds; None where it could not be measured.
    :ivar bound: what it should be.
    :ivar at_least: whether the bound is the least; else it is the most.
    """

    target: str
    column: str
    found: Spread | None
    bound: float
    at_least: bool = True

    @property
    def met(self) -> bool | None:
        """Return whether the median meets the bound; None where there is none."""
        if self.found is None:
            return None
        return self.found.median >= self.bound if self.at_least else self.found.median <= self.bound

    @property
    def data(self) -> dict[str, object]:
        """Return it for JSON."""
        return {
            "target": self.target,
            "column": self.column,
            "found": None if self.found is None else self.found.data,
            "bound": self.bound,
            "at_least": self.at_least,
            "met": self.met,
        }


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a line chart.

    :ivar label: its name.
    :ivar points: x, and the median, least and most of y.
    :ivar style: what it is, which decides its colour and stroke.
    """

    label: str
    points: Sequence[tuple[float, Spread]]
    style: Literal["ours", "raw", "peer"] = "peer"


@dataclass(frozen=True, slots=True)
class Ranges:
    """One row of a chart of percentiles.

    :ivar label: its name.
    :ivar group: what it is shown together with.
    :ivar values: the 50th, 90th and 99th percentile.
    :ivar style: as for a line.
    """

    label: str
    group: str
    values: tuple[float, float, float]
    style: Literal["ours", "raw", "peer"] = "peer"


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart: of lines, or of percentiles.

    :ivar name: its file's, without the suffix.
    :ivar title: what it shows.
    :ivar x: the name and unit of the horizontal axis.
    :ivar y: those of the vertical one; "" for a chart of percentiles.
    :ivar content: all of one kind.
    """

    name: str
    title: str
    x: str
    y: str
    content: Sequence[Line] | Sequence[Ranges]


@dataclass(frozen=True, slots=True)
class SectionReport:
    """All that a section gives.

    :ivar name: the section's.
    :ivar tables: for Markdown.
    :ivar verdicts: for the table of targets.
    :ivar charts: for SVG.
    :ivar data: for JSON.
    """

    name: str
    tables: list[Table] = field(default_factory=list[Table])
    verdicts: list[Verdict] = field(default_factory=list[Verdict])
    charts: list[Chart] = field(default_factory=list[Chart])
    data: dict[str, object] = field(default_factory=dict[str, object])
