"""How far a table was read, and what a checkpoint holds of it. No I/O.

A table is read in passes, each in the order of column and key, from a *floor* to the end and on with what comes there.
What is committed with each event is the place of its row in the pass, and the floor of the next pass: the largest value
that was there when this pass began, less the window. A row that was committed late, behind the place, is found by the
next pass. So only rows at or above that floor will be read again, and only they are marked, a few bytes for each, in
the same commit. After a crash the pass goes on at its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asyncstore import JsonValue

from .reader import Newest, Row
from .scale import Scale
from .values import freeze, thaw
from .window import Bucket, Window, mark_of

__all__ = ["Progress"]

#: Marks that a pass may add before the next one begins, if the window holds fewer: so a burst is no window.
_CROWD = 10_000


class Progress:
    """Know how far a table was read.

    :param scale: how its column is compared.
    :param columns: the names of the column and the key.
    :param start: the least value that is wanted; None for all.
    """

    def __init__(self, scale: Scale, columns: Sequence[str], start: Any = None) -> None:
        self._scale = scale
        self._columns = list(columns)
        self._window = Window()
        self._turn = 0
        self._marked = self._crowd = 0
        #: The row that was read last in this pass, and where the pass began.
        self.after: tuple[Any, ...] | None = None
        self.start = start
        #: Where the next pass begins, and the largest value when this one began.
        self.floor = start
        self.top: Any = None

    def restore(self, kept: Any, buckets: dict[int, Any]) -> None:
        """Go on where a checkpoint was made.

        :param kept: the watermark.
        :param buckets: what was kept of the window.
        :raises ValueError: it was made of other columns.
        """
        if kept["columns"] != self._columns:
            raise ValueError(
                f"this watcher was begun by the columns {kept['columns']} and is to go on by {self._columns}; give it "
                "another name, or delete its state"
            )
        self.after = None if kept["row"] is None else tuple(thaw(each) for each in kept["row"])
        self.start = self.floor = thaw(kept["floor"])
        self.top = thaw(kept["top"])
        self._turn = kept["turn"]
        self._window = Window({number: Bucket.from_json(each) for number, each in buckets.items()})

    def begin_pass(self, newest: Newest | None) -> None:
        """Begin at the floor again.

        :param newest: the largest value that is there; None where nothing is at or above the floor.
        """
        scale, turn = self._scale, self._turn
        self.start, self.after = self.floor, None
        if newest is not None and newest.grown:
            self.top, self._turn = newest.value, turn + 1
            floor = scale.before(newest.value)
            self.floor = floor if self.floor is None else scale.later(self.floor, floor)

        def is_over(bucket: Bucket) -> bool:
            if self.start is None:
                return False
            # Texts are compared by the database alone. What was marked two turns ago is not above the top of one ago.
            return bucket.turn <= turn - 2 if scale.kind == "text" else scale.is_less(bucket.upto, self.start)

        self._window.release(is_over)
        self._crowd, self._marked = max(_CROWD, len(self._window)), 0

    @property
    def is_crowded(self) -> bool:
        """Tell whether so many rows came since this pass began that the floor should rise."""
        return self._marked > self._crowd

    def knows(self, row: Row) -> bool:
        """Tell whether a row was told.

        :param row: the row.
        """
        # Below the floor of the next pass there are marks as well, of rows that this one reads again.
        return len(self._window) > 0 and mark_of(row.position) in self._window

    def passed(self, row: Row) -> None:
        """Take note that a row is done with.

        :param row: the row.
        """
        self.after = row.position

    def record(self, row: Row) -> dict[str, JsonValue]:
        """Mark a row as told, and give what must be committed with its event, by the end of its key.

        :param row: the row.
        """
        kept = self.watermark(row.position)
        return {"watermark": kept, **self.mark(row)}

    def mark(self, row: Row) -> dict[str, JsonValue]:
        """Mark a row as told, and give what must be kept of the window; nothing for a row that is not read again.

        :param row: the row.
        """
        if not row.within:
            return {}
        self._marked += 1
        mark = mark_of(row.position)
        number, bucket = self._window.add(mark, row.position[0], self._turn, self._scale.later)
        return {f"window/{number}": bucket}

    def watermark(self, position: Sequence[Any] | None) -> JsonValue:
        """Give what is kept of how far the table was read.

        :param position: of the last row in this pass; None for its beginning.
        """
        return {
            "columns": [*self._columns],
            "row": None if position is None else [freeze(each) for each in position],
            "floor": freeze(self.floor),
            "top": freeze(self.top),
            "turn": self._turn,
        }
