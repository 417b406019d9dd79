"""How much work a value is, told without doing it."""

from __future__ import annotations

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
        for key, item in cast("dict[object, object]", value).items():
            budget = weigh(item, weigh(key, budget))
            if budget < 0:
                break
    elif isinstance(value, list | tuple):
        for item in cast("list[object]", value):
            budget = weigh(item, budget)
            if budget < 0:
                break
    return budget


def is_small(value: object) -> bool:
    """Tell whether a value is so small that the event loop may encode it."""
    return weigh(value, _SMALL) >= 0
