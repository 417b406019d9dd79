"""How watchers are divided among the triggerers that can run them; each of them comes to the same result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import heapify, heapreplace
from math import floor

__all__ = ["divide"]

#: Triggerers that can run the same watchers, and how many those are.
Group = tuple[frozenset[int], int]


def divide(groups: Iterable[Group], capacities: Mapping[int, int]) -> dict[int, dict[frozenset[int], int]]:
    """Give each triggerer its share of each group, so that loads are even in proportion to capacities.

    Groups that few can run come first; what is left goes to whoever has most room. With one group, nobody is further
    than one watcher from its share by capacity. Nobody gets more than its capacity.

    :param groups: who can run how many watchers.
    :param capacities: how many watchers each runs at most.
    :return: for each triggerer and group, how many watchers it should run.
    """
    loads = dict.fromkeys(capacities, 0)
    shares: dict[int, dict[frozenset[int], int]] = {member: {} for member in capacities}
    for members, count in sorted(groups, key=lambda group: (len(group[0]), sorted(group[0]))):
        able = sorted(member for member in members if capacities.get(member, 0) > 0)
        for member, given in _pour(able, min(count, _room(able, loads, capacities)), loads, capacities).items():
            if given:
                shares[member][members] = shares[member].get(members, 0) + given
                loads[member] += given
    return shares


def _room(members: list[int], loads: Mapping[int, int], capacities: Mapping[int, int]) -> int:
    return sum(capacities[member] - loads[member] for member in members)


def _pour(members: list[int], count: int, loads: Mapping[int, int], capacities: Mapping[int, int]) -> dict[int, int]:
    # As water does: all rise to one level, measured by capacity. The last few go one by one.
    def up_to(level: float) -> dict[int, int]:
        return {
            member: max(min(floor(level * capacities[member]), capacities[member]) - loads[member], 0)
            for member in members
        }

    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        if sum(up_to(middle).values()) <= count:
            low = middle
        else:
            high = middle
    given = up_to(low)
    heap = [(_level(member, given, loads, capacities), member) for member in members]
    heapify(heap)
    for _ in range(count - sum(given.values())):
        member = heap[0][1]
        given[member] += 1
        heapreplace(heap, (_level(member, given, loads, capacities), member))
    return given


def _level(member: int, given: Mapping[int, int], loads: Mapping[int, int], capacities: Mapping[int, int]) -> float:
    # The level with one more; whoever is full comes last.
    after = loads[member] + given[member] + 1
    return after / capacities[member] if after <= capacities[member] else float("inf")
