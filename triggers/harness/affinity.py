"""Watchers that must run in one process: those of one acknowledging stream.

A raw event is advanced when the watchers that a process runs have answered it. Were they in two processes, each of them
would acknowledge what the other's had not committed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator

__all__ = ["Affinity"]


class Affinity:
    """Hold which watchers belong together."""

    def __init__(self) -> None:
        self._key_of: dict[int, Hashable] = {}
        self._together: defaultdict[Hashable, set[int]] = defaultdict(set)

    def add(self, watcher_id: int, key: Hashable | None) -> None:
        """Add a watcher.

        :param watcher_id: the watcher.
        :param key: equal for those that belong together; None for one that stands alone.
        """
        self.discard(watcher_id)
        if key is not None:
            self._key_of[watcher_id] = key
            self._together[key].add(watcher_id)

    def discard(self, watcher_id: int) -> None:
        """Forget a watcher."""
        key = self._key_of.pop(watcher_id, None)
        if key is not None:
            self._together[key].discard(watcher_id)
            if not self._together[key]:
                del self._together[key]

    def __contains__(self, watcher_id: int) -> bool:
        """Tell whether a watcher belongs to others."""
        return watcher_id in self._key_of

    def __bool__(self) -> bool:
        """Tell whether any belong together."""
        return bool(self._key_of)

    def __iter__(self) -> Iterator[int]:
        """Give all that belong to others."""
        return iter(self._key_of)

    def groups(self, watcher_ids: Iterable[int]) -> list[tuple[list[int], Collection[int]]]:
        """Sort watchers by what they belong to; those that stand alone are left out.

        :return: those of the watchers that belong together, in the order of their ids, and all that do.
        """
        found: defaultdict[Hashable, list[int]] = defaultdict(list)
        for watcher_id in sorted(each for each in watcher_ids if each in self._key_of):
            found[self._key_of[watcher_id]].append(watcher_id)
        return [(ids, self._together[key]) for key, ids in found.items()]

    def latest(self, running: list[int], count: int) -> list[int]:
        """Choose the latest of those that run, and never a part of what belongs together.

        :param running: in the order that they were started in.
        :param count: how many at most.
        """
        chosen: list[int] = []
        seen: set[Hashable] = set()
        for watcher_id in reversed(running):
            key = self._key_of.get(watcher_id)
            if key is None:
                block = [watcher_id]
            elif key in seen:
                continue
            else:
                seen.add(key)
                block = [each for each in running if self._key_of.get(each) == key]
            if len(chosen) + len(block) <= count:
                chosen += block
        return chosen
