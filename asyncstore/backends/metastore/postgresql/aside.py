"""Commits that wait for somebody's lock: they hold up nobody but those that must come behind them."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from .writing import WriteJob, waits_for

__all__ = ["Aside", "Unit"]


@dataclass(eq=False, slots=True)
class Unit:
    """Commits that go together.

    :ivar jobs: the commits.
    :ivar until: when they are given up, by `time.monotonic()`.
    :ivar behind: the units whose turn is before.
    :ivar done: they are answered.
    """

    jobs: list[WriteJob]
    until: float
    behind: list[Unit] = field(default_factory=list)
    done: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class _Place:
    """Know the last unit for each key of a place, and the last one for all of it."""

    keys: dict[Hashable, Unit] = field(default_factory=dict)
    whole: Unit | None = None

    def before(self, key: Hashable) -> list[Unit]:
        found = list(self.keys.values()) if key is None else [self.keys[key]] if key in self.keys else []
        return found if self.whole is None else [*found, self.whole]


class Aside:
    """Keep the order of commits that touch the same keys, or are of the same watcher."""

    def __init__(self) -> None:
        self.units: set[Unit] = set()
        self._places: dict[Hashable, _Place] = {}

    def __bool__(self) -> bool:
        return bool(self.units)

    def concerns(self, touches: Sequence[tuple[Hashable, Hashable]]) -> bool:
        """Tell whether a commit that touches this must come behind one that waits."""
        for place, key in touches:
            known = self._places.get(place)
            if known is not None and known.before(key):
                return True
        return False

    def add(self, jobs: list[WriteJob], until: float) -> Unit:
        """Have commits wait, behind those that they must come behind."""
        unit = Unit(jobs, until)
        behind: dict[Unit, None] = {}
        touched = {each: None for job in jobs for each in waits_for(job.asked.commit)}
        for place, key in touched:
            known = self._places.get(place)
            if known is not None:
                behind.update(dict.fromkeys(known.before(key)))
        for place, key in touched:
            known = self._places.setdefault(place, _Place())
            if key is None:
                known.keys.clear()
                known.whole = unit
            else:
                known.keys[key] = unit
        behind.pop(unit, None)
        unit.behind = list(behind)
        self.units.add(unit)
        return unit

    def remove(self, unit: Unit) -> None:
        """Let those behind have their turn."""
        self.units.discard(unit)
        unit.done.set()
        for job in unit.jobs:
            for place, key in waits_for(job.asked.commit):
                known = self._places.get(place)
                if known is None:
                    continue
                if known.whole is unit:
                    known.whole = None
                if known.keys.get(key) is unit:
                    del known.keys[key]
                if known.whole is None and not known.keys:
                    del self._places[place]
