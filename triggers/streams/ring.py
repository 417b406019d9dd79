"""The latest raw events of a stream, and who can go on from them."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from typing import Any

__all__ = ["Kept", "Ring"]


@dataclass(frozen=True, slots=True)
class Kept:
    """Hold a raw event and its position; None without positions.

    :param position: where it is.
    :param raw: the raw event.
    """

    position: Any
    raw: Any


class Ring:
    """Keep a bounded number of raw events, numbered from 0.

    :param size: how many.
    :param positioned: they have positions.
    :param snapshots: each stands for all before it.
    """

    def __init__(self, size: int, *, positioned: bool, snapshots: bool) -> None:
        self._size = 1 if snapshots else size
        self._positioned = positioned
        self._snapshots = snapshots
        self._kept: deque[Kept] = deque()
        #: The number of the oldest that is kept.
        self.first = 0
        #: Everything after this position is kept, or comes; None: everything.
        self.floor: Any = None

    @property
    def head(self) -> int:
        """Return the number that the next one gets."""
        return self.first + len(self._kept)

    @property
    def last(self) -> Any:
        """Return the position up to which everything was given."""
        return self._kept[-1].position if self._kept else self.floor

    def __getitem__(self, number: int) -> Kept:
        return self._kept[number - self.first]

    def append(self, kept: Kept) -> None:
        """Keep one more, and forget the oldest where there is no room."""
        if len(self._kept) == self._size:
            self.floor = self._kept.popleft().position
            self.first += 1
        self._kept.append(kept)

    def after(self, at: Any) -> int | None:
        """Find the number from which on is everything after a position.

        :param at: the position; None for the beginning.
        :return: the number, or None: some of it is forgotten.
        """
        if self._snapshots:
            return self.first
        if not self._positioned:
            return None if self.first else 0
        if self.floor is not None and (at is None or at < self.floor):
            return None
        if at is None:
            return self.first
        return self.first + bisect_right(self._kept, at, key=lambda kept: kept.position)

    def is_near(self, number: int) -> bool:
        """Say whether the head is near enough for a slow one not to fall behind again at once."""
        return self.head - number <= self._size // 2
