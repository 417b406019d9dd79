"""How much work a value is, told without doing it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

__all__ = ["is_small", "weigh"]

#: Parts, and pieces of 64 characters: what takes some ten microseconds.
_SMALL = 256


def weigh(value: object, budget: int) -> int:
    """Tell what is left of a budget of parts and pieces of text; less than 0 where it is not enough.

    The look itself is bounded by the budget.

    :param value: any value, JSON or not.
    :param budget: how many there may be.
    """
    budget -= 1
    if budget < 0:
        return budget
    if isinstance(value, str | bytes):
        return budget - len(value) // 64
    if isinstance(value, int):
        return budget - value.bit_length() // 256
    if isinstance(value, dict):
        entries = cast("dict[object, object]", value)
        budget = _weigh_all(entries, budget)
        return budget if budget < 0 else _weigh_all(entries.values(), budget)
    if isinstance(value, list | tuple):
        return _weigh_all(cast("list[object]", value), budget)
    return budget


def _weigh_all(items: Iterable[object], budget: int) -> int:
    # What most values are made of is weighed here, without a call for each.
    for item in items:
        kind = type(item)
        if kind is str:
            budget -= 1 + len(cast("str", item)) // 64
        elif kind is float or kind is bool or item is None:
            budget -= 1
        else:
            budget = weigh(item, budget)
        if budget < 0:
            return budget
    return budget


def is_small(value: object) -> bool:
    """Tell whether a value is so small that the event loop may encode it."""
    return weigh(value, _SMALL) >= 0
