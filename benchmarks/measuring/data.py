"""The keys and values that every contender reads and writes; free of imports, as the loops are."""

from __future__ import annotations

import json
import random

__all__ = ["TEXTS", "VALUES", "keys_of", "shuffled"]

#: About 100 bytes of JSON each.
VALUES: list[dict[str, object]] = [{"page": 1000 + number, "token": "x" * 76} for number in range(997)]
TEXTS: list[str] = [json.dumps(value, separators=(",", ":")) for value in VALUES]


def keys_of(rows: int) -> list[str]:
    """Give the keys of that many rows."""
    return [f"key {number:08d}" for number in range(rows)]


def shuffled(rows: int, at_most: int = 100_000) -> list[str]:
    """Give keys of a table of that many rows, in an order without a pattern that is the same in every run.

    :param rows: the rows of the table.
    :param at_most: so many different keys are enough.
    """
    order = random.Random(rows)
    return [f"key {number:08d}" for number in order.sample(range(rows), min(rows, at_most))]
