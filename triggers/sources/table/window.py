"""Which rows of the window were told: few bytes for each, in few keys that are used again."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from asyncstore import JsonValue

from .values import freeze, thaw

__all__ = ["Bucket", "Window", "mark_of"]

#: Rows in a key: each event writes the key of its row anew, so it is small; each key has its price, so it is not one.
_ROWS = 32
_BYTES = 12


@dataclass(slots=True)
class Bucket:
    """Hold the marks of some rows.

    :ivar upto: the largest value of the column among them.
    :ivar turn: how often the table had grown when the last one was added.
    :ivar marks: the rows.
    """

    upto: Any
    turn: int
    marks: list[bytes] = field(default_factory=list[bytes])

    def to_json(self) -> JsonValue:
        """Give what is kept of it."""
        return {"upto": freeze(self.upto), "turn": self.turn, "rows": b64encode(b"".join(self.marks)).decode()}

    @classmethod
    def from_json(cls, kept: Any) -> Bucket:
        """Give back what `to_json` gave.

        :param kept: what it gave.
        """
        rows = b64decode(kept["rows"])
        marks = [rows[at : at + _BYTES] for at in range(0, len(rows), _BYTES)]
        return cls(thaw(kept["upto"]), kept["turn"], marks)


def mark_of(position: Iterable[Any]) -> bytes:
    """Give the mark of a row: 96 bits of a digest, so that two rows never share one.

    :param position: the value of its column, and its key.
    """
    text = json.dumps([freeze(each) for each in position])
    return blake2b(text.encode(errors="surrogatepass"), digest_size=_BYTES).digest()


class Window:
    """Know the rows that were told and may be read again.

    :param buckets: what was kept, by number.
    """

    def __init__(self, buckets: dict[int, Bucket] | None = None) -> None:
        self._buckets = buckets or {}
        self._marks = {mark for bucket in self._buckets.values() for mark in bucket.marks}
        self._free: list[int] = []
        self._next = max(self._buckets, default=-1) + 1
        self._open: int | None = None

    def __contains__(self, mark: bytes) -> bool:
        return mark in self._marks

    def __len__(self) -> int:
        return len(self._marks)

    def add(self, mark: bytes, value: Any, turn: int, later: Callable[[Any, Any], Any]) -> tuple[int, JsonValue]:
        """Take a row in.

        :param mark: its mark.
        :param value: the value of its column.
        :param turn: how often the table has grown.
        :param later: gives the later one of two values.
        :return: the number of the bucket to be kept, and its content.
        """
        if self._open is None:
            if self._free:
                self._open = self._free.pop()
            else:
                self._open, self._next = self._next, self._next + 1
            self._buckets[self._open] = Bucket(value, turn)
        number, bucket = self._open, self._buckets[self._open]
        bucket.upto, bucket.turn = later(bucket.upto, value), turn
        bucket.marks.append(mark)
        self._marks.add(mark)
        if len(bucket.marks) >= _ROWS:
            self._open = None
        return number, bucket.to_json()

    def release(self, is_over: Callable[[Bucket], bool]) -> None:
        """Let go of buckets whose rows are not read any more; their keys are used again.

        :param is_over: tells of a bucket whether that is so.
        """
        for number, bucket in self._buckets.items():
            if bucket.marks and number != self._open and is_over(bucket):
                self._marks.difference_update(bucket.marks)
                bucket.marks = []
                self._free.append(number)
