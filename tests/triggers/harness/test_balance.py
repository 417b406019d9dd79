from __future__ import annotations

from math import ceil, floor

from hypothesis import given
from hypothesis import strategies as st

from triggers.harness.balance import divide

CAPACITIES = st.dictionaries(st.integers(1, 50), st.integers(1, 2000), min_size=1, max_size=6)


@given(CAPACITIES, st.integers(0, 10_000))
def test_with_one_group_everybody_is_within_one_of_its_share(capacities: dict[int, int], count: int) -> None:
    everybody = frozenset(capacities)
    shares = divide([(everybody, count)], capacities)
    given_out = min(count, sum(capacities.values()))
    assert sum(share.get(everybody, 0) for share in shares.values()) == given_out
    for member, capacity in capacities.items():
        fair = min(given_out * capacity / sum(capacities.values()), capacity)
        assert floor(fair - 1e-6) <= shares[member].get(everybody, 0) <= ceil(fair + 1e-6)
        assert shares[member].get(everybody, 0) <= capacity


@st.composite
def _groups(draw: st.DrawFn) -> tuple[dict[int, int], list[tuple[frozenset[int], int]]]:
    capacities = draw(CAPACITIES)
    members = st.frozensets(st.sampled_from(sorted(capacities)), min_size=1)
    kinds = draw(st.lists(members, max_size=5, unique=True))
    return capacities, [(kind, draw(st.integers(0, 1000))) for kind in kinds]


@given(_groups())
def test_nobody_gets_what_it_cannot_run_and_nothing_is_left_that_somebody_could(
    given_groups: tuple[dict[int, int], list[tuple[frozenset[int], int]]],
) -> None:
    capacities, groups = given_groups
    shares = divide(groups, capacities)
    loads = {member: sum(share.values()) for member, share in shares.items()}
    assert all(loads[member] <= capacities[member] for member in capacities)
    for group, count in groups:
        taken = sum(share.get(group, 0) for share in shares.values())
        assert taken <= count
        assert all(member in group for member, share in shares.items() if share.get(group))
        if taken < count:
            assert all(loads[member] == capacities[member] for member in group)


@given(_groups())
def test_everybody_comes_to_the_same_result(
    given_groups: tuple[dict[int, int], list[tuple[frozenset[int], int]]],
) -> None:
    capacities, groups = given_groups
    turned = dict(reversed(capacities.items()))
    assert divide(groups, capacities) == divide(reversed(groups), turned)


def test_what_few_can_run_comes_first() -> None:
    only, both = frozenset({1}), frozenset({1, 2})
    assert divide([(both, 10), (only, 10)], {1: 100, 2: 100}) == {1: {only: 10}, 2: {both: 10}}


def test_one_that_has_no_capacity_left_gets_nothing_more() -> None:
    everybody = frozenset({1, 2})
    assert divide([(everybody, 101)], {1: 2, 2: 100}) == {1: {everybody: 2}, 2: {everybody: 99}}
    assert divide([(everybody, 200)], {1: 2, 2: 100}) == {1: {everybody: 2}, 2: {everybody: 100}}
