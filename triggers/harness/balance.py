"""How watchers are divided among the triggerers that can run them; each of them comes to the same result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import floor

__all__ = ["divide"]

#: Triggerers that can run the same watchers, and how many those are.
Group = tuple[frozenset[int], int]
_NOTHING: Mapping[int, Mapping[frozenset[int], int]] = {}
#: Shares that differ by less are equal, whatever the last digits say.
_ROUNDING = 1e-6


def divide(
    groups: Iterable[Group], capacities: Mapping[int, int], fixed: Mapping[int, Mapping[frozenset[int], int]] = _NOTHING
) -> dict[int, dict[frozenset[int], int]]:
    """Give each triggerer its share of each group, so that loads are even in proportion to capacities.

    Groups that few can run come first; what is left goes to whoever has most room. With one group, nobody is further
    than one watcher from its share by capacity. Nobody gets more than its capacity.

    :param groups: who can run how many watchers.
    :param capacities: how many watchers each runs at most.
    :param fixed: what some run in any case, of the same groups; it is part of their shares.
    :return: for each triggerer and group, how many watchers it should run.
    """
    shares = {member: dict(fixed.get(member, {})) for member in capacities}
    loads = {member: sum(share.values()) for member, share in shares.items()}
    rest = [(members, count - sum(share.get(members, 0) for share in shares.values())) for members, count in groups]
    for members, count in sorted(rest, key=lambda group: (len(group[0]), sorted(group[0]))):
        able = sorted(member for member in members if capacities.get(member, 0) > 0)
        for member, given in _pour(able, min(count, _room(able, loads, capacities)), loads, capacities).items():
            if given:
                shares[member][members] = shares[member].get(members, 0) + given
                loads[member] += given
    return shares


def _room(members: list[int], loads: Mapping[int, int], capacities: Mapping[int, int]) -> int:
    return sum(capacities[member] - loads[member] for member in members)


def _pour(members: list[int], count: int, loads: Mapping[int, int], capacities: Mapping[int, int]) -> dict[int, int]:
    # As water does: all rise to one level, measured by capacity. What is less than one goes to those who are nearest.
    def up_to(level: float) -> dict[int, float]:
        return {member: max(min(level, 1.0) * capacities[member] - loads[member], 0.0) for member in members}

    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if sum(up_to(middle).values()) <= count:
            low = middle
        else:
            high = middle
    fair = up_to(high)
    given = {member: floor(share + _ROUNDING) for member, share in fair.items()}
    left = count - sum(given.values())
    for member in sorted(members, key=lambda each: (given[each] - fair[each], each)):
        if left <= 0:
            break
        if loads[member] + given[member] < capacities[member]:
            given[member] += 1
            left -= 1
    return given
