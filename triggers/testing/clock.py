"""Virtual time: a wall clock and a monotonic one that only the event loop moves."""

from __future__ import annotations

import math
import threading
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime

from asyncstore import ManualClock

__all__ = ["VirtualClock"]


class VirtualClock(ManualClock):
    """Tell the virtual time of an event loop, to the loop and to a store alike.

    `connect(backend=MemoryBackend(clock=clock), clock=clock)` expires values by it. `advance` moves the wall clock
    alone, as an administrator would; the loop's own time never goes back and is not touched by it.

    :param start: what the wall clock says at the beginning.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        super().__init__(start)
        self._seconds = 0.0
        self._holds = 0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<VirtualClock at {self._seconds:g} s>"

    @property
    def seconds(self) -> float:
        """Return the seconds of virtual time that have passed; what `loop.time()` and `anyio.current_time()` say."""
        return self._seconds

    @property
    def is_held(self) -> bool:
        """Tell whether somebody holds it."""
        return self._holds > 0

    @contextmanager
    def hold(self) -> Generator[None]:
        """Keep time from passing for as long as the block lasts; in any thread.

        For what the event loop cannot know of: a thread that owes an answer and only sets an `asyncio.Event`.
        """
        with self._lock:
            self._holds += 1
        try:
            yield
        finally:
            with self._lock:
                self._holds -= 1

    def microseconds(self) -> int:
        """Return the wall clock, as microseconds since 1970-01-01T00:00:00Z."""
        return super().microseconds() + round(self._seconds * 1_000_000)

    def pass_seconds(self, seconds: float) -> None:
        """Let time pass; for the event loop, which does it when nothing else is left to do.

        :param seconds: how much; always at least the smallest step, so that a timer is reached in the end.
        """
        self._seconds = max(self._seconds + seconds, math.nextafter(self._seconds, math.inf))
