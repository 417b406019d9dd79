"""Which commits of a batch go first, so that plain puts go by their own statement, which costs half of any other."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from ....scopes import AssetScope, TaskScope
from .writing import WriteJob, waits_for

__all__ = ["Touched", "are_plain", "sift"]


def _kind(job: WriteJob) -> type[TaskScope | AssetScope] | None:
    put = job.asked.put
    return None if put is None else type(put.scope)


def are_plain(batch: Sequence[WriteJob]) -> bool:
    """Tell whether a batch is of plain puts of one kind, each of another key."""
    first = batch[0].asked.put
    if first is None:
        return False
    kind = type(first.scope)
    seen: set[Hashable] = set()
    for job in batch:
        put = job.asked.put
        if put is None or type(put.scope) is not kind:
            return False
        scope = put.scope
        seen.add((scope.asset_id, put.key) if isinstance(scope, AssetScope) else (scope, put.key))
    return len(seen) == len(batch)


def sift(batch: Sequence[WriteJob]) -> tuple[list[WriteJob], list[WriteJob]]:
    """Take those of the first one's kind, each key of a put once; the others are for later.

    What touches the same keys, or is of the same watcher, stays in order.
    """
    kind = _kind(batch[0])
    now: list[WriteJob] = []
    later: list[WriteJob] = []
    taken: set[Hashable] = set()
    left = Touched()
    for job in batch:
        touched = waits_for(job.asked.commit)
        fits = _kind(job) is kind and (kind is None or touched[0] not in taken)
        if fits and not (later and left.meets(touched)):
            now.append(job)
            taken.update(touched)
        else:
            later.append(job)
            left.add(touched)
    return now, later


class Touched:
    """Know what some commits touch."""

    def __init__(self) -> None:
        self._keys: set[Hashable] = set()
        self._places: set[Hashable] = set()
        self._whole: set[Hashable] = set()

    def add(self, touched: Sequence[tuple[Hashable, Hashable]]) -> None:
        """Note what `waits_for` gives of one more."""
        for each in touched:
            place, key = each
            self._places.add(place)
            if key is None:
                self._whole.add(place)
            else:
                self._keys.add(each)

    def meets(self, touched: Sequence[tuple[Hashable, Hashable]]) -> bool:
        """Tell whether another commit touches something of it."""
        for each in touched:
            place, key = each
            if each in self._keys or place in self._whole or (key is None and place in self._places):
                return True
        return False
