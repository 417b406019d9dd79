from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from triggers.testing.crashes.judging import Verdict, judge

numbers = st.lists(st.integers(0, 5), max_size=8)


@given(numbers, numbers)
def test_lost_and_doubled_are_what_is_missing_and_what_is_too_much(expected: list[int], found: list[int]) -> None:
    verdict = judge(expected, found, identify=lambda number: number)
    wanted, there = Counter(expected), Counter(found)
    assert Counter(verdict.lost) == wanted - there
    assert Counter((*verdict.doubled, *verdict.unexpected)) == there - wanted
    assert set(verdict.doubled) <= set(expected)
    assert not set(verdict.unexpected) & set(expected)


@given(st.permutations(range(6)))
def test_only_what_is_in_order_is_in_order(found: list[int]) -> None:
    verdict = judge(range(6), found, identify=lambda number: number)
    assert verdict.ok == (found == sorted(found))
    assert judge(range(6), found, identify=lambda number: number, ordered=False).ok
    kept = [number for number in found if number not in verdict.out_of_order]
    assert kept == sorted(kept)


def test_the_rest() -> None:
    assert judge([1, 1], [1, 1], identify=str) == Verdict()
    assert judge([1], [1, 2, 2], identify=str, optional=[2]) == Verdict(doubled=(2,))
    assert judge([1, 2], [1, 2, 3, 4], identify=str, endless=True) == Verdict()
    assert judge([1, 2], [1, 2, 3, 2], identify=str, endless=True) == Verdict(doubled=(2,))
