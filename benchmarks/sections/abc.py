"""What the sections of one run share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..databases.sites import Site
from ..options import Options
from ..report.model import SectionReport

__all__ = ["Run", "Section", "style_of"]


@dataclass(frozen=True, slots=True)
class Run:
    """Hold what the sections work with.

    :ivar options: what to do.
    :ivar runner: runs every coroutine.
    :ivar folder: for files; removed in the end.
    :ivar sites: the databases.
    :ivar airflow: the Python of Airflow's environment, where there is one.
    :ivar failures: what did not work, and makes the run fail in the end.
    """

    options: Options
    runner: asyncio.Runner
    folder: Path
    sites: tuple[Site, ...]
    airflow: Path | None = None
    failures: list[str] = field(default_factory=list[str])


#: Measures on one database.
Section = Callable[[Run, Site], SectionReport]


def style_of(name: str) -> Literal["ours", "raw", "peer"]:
    """Tell from a contender's name how its line is drawn."""
    if name.startswith("asyncstore"):
        return "ours"
    return "raw" if name.startswith("raw") else "peer"
