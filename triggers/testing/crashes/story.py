"""What is told again and again with another ending: a watcher, its world, and what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from asyncstore import Asset, Event, MemoryBackend, Settings

from ...abc import BaseTrigger
from ...watcher import AssetWatcher
from ..clock import VirtualClock

__all__ = ["MANY", "Blow", "Fault", "Story", "World", "identify_by_payload"]

#: Events of a watcher that nobody limited, after which it is taken for one without end.
MANY = 2000


class Fault(StrEnum):
    """Say what goes wrong.

    `KILL` is SIGKILL at an `await`. `BUSY` is a `StoreBusyError` of any operation of the watcher on its store;
    nothing was written. `UNKNOWN_LOST` and `UNKNOWN_MADE` are an `OutcomeUnknownError` of a commit: one that was
    not made, and one that was.
    """

    KILL = "killed"
    BUSY = "store busy"
    UNKNOWN_LOST = "outcome unknown, not made"
    UNKNOWN_MADE = "outcome unknown, made"


@dataclass(frozen=True, slots=True)
class Blow:
    """Name the moment at which something goes wrong.

    :ivar fault: what.
    :ivar at: at which `await`, operation or commit, from 1; 0 for never.
    """

    fault: Fault = Fault.KILL
    at: int = 0


def identify_by_payload(payload: Any) -> str:
    """Give what tells payloads apart, where nobody says otherwise: all of it."""
    return json.dumps(payload, sort_keys=True, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Story:
    """Hold what every run has in common.

    :ivar make: gives the watcher, or its trigger.
    :ivar asset: the watched asset; None for one of the kit's own.
    :ivar settings: of the store and the triggerer.
    :ivar identify: tells payloads apart.
    :ivar quiet: seconds of virtual time without an event after which a run is over.
    :ivar idle: suspensions without an event after which a run is over; a tenth, once all that is wanted is there.
    :ivar follow: modules that read the virtual time, besides that of the trigger's class.
    :ivar take: how many events are enough; None where the source comes to an end.
    :ivar wanted: what must be in the log in the end; None while nobody knows.
    """

    make: Callable[[], AssetWatcher | BaseTrigger]
    asset: Asset | None
    settings: Settings
    identify: Callable[[Any], Hashable]
    quiet: float
    idle: int
    follow: Sequence[str]
    take: int | None
    wanted: frozenset[Hashable] | None = None

    def is_all(self, told: list[Hashable]) -> bool:
        """Tell whether all that is wanted is among the identities of events."""
        return self.wanted is not None and len(told) >= len(self.wanted) and self.wanted.issubset(told)

    def is_enough(self, told: list[Hashable]) -> bool:
        """Tell whether a run may end, although its source would go on."""
        if self.take is None:
            return False
        return len(told) >= self.take if self.wanted is None else self.is_all(told)

    def is_too_much(self, told: list[Hashable]) -> bool:
        """Tell whether a run will never end."""
        return len(told) > (MANY if self.wanted is None else 2 * len(self.wanted) + 100)


@dataclass(slots=True)
class World:
    """Hold what outlives a process: what was committed, and the time.

    :ivar clock: the time.
    :ivar backend: the committed.
    :ivar told: what tells the events of the log apart, in order.
    """

    clock: VirtualClock = field(default_factory=VirtualClock)
    backend: MemoryBackend = field(init=False)
    told: list[Hashable] = field(default_factory=list[Hashable])

    def __post_init__(self) -> None:
        self.backend = MemoryBackend(clock=self.clock)

    def log(self) -> list[Event]:
        """Read the events from the backend itself."""
        return self.backend.run_blocking(self.backend.alist_events)
