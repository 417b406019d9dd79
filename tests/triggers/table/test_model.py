"""Which rows are told, against a model: rows committed late, kills at any event, passes that end anywhere."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from triggers.sources.table.progress import Progress
from triggers.sources.table.reader import Newest, Row
from triggers.sources.table.scale import Scale

OVERLAP, BATCH = 5, 3


class Table:
    """A table in memory, and what a watcher of it told and kept."""

    def __init__(self) -> None:
        self.rows: set[tuple[int, int]] = set()
        self.owed: set[tuple[int, int]] = set()
        self.told: list[tuple[int, int]] = []
        self.kept: dict[str, Any] = {}
        self.start()

    def start(self) -> None:
        self.progress = Progress(Scale("number", OVERLAP), ["v", "k"])
        if "watermark" in self.kept:
            buckets = {int(name[7:]): value for name, value in self.kept.items() if name.startswith("window/")}
            self.progress.restore(self.kept["watermark"], buckets)
        else:
            self.begin_pass()

    def begin_pass(self) -> None:
        floor, top = self.progress.floor, self.progress.top
        values = [value for value, _ in self.rows if floor is None or value >= floor]
        newest = max(values, default=None)
        is_new = top is None or (newest is not None and newest > top)
        self.progress.begin_pass(None if newest is None else Newest(newest, is_new, top is None or newest >= top))

    def is_within(self) -> bool:
        """Tell whether all below the floor was read, as where the trigger cuts a pass short."""
        after, floor = self.progress.after, self.progress.floor
        return after is not None and floor is not None and bool(after[0] >= floor)

    def insert(self, value: int, key: int) -> None:
        if (value, key) in self.rows:
            return
        # What is within the window of the largest value that is there must be told.
        if value >= max((each for each, _ in self.rows), default=value) - OVERLAP:
            self.owed.add((value, key))
        self.rows.add((value, key))

    def page(self, kill_at: int) -> bool:
        """Read a page and tell its rows, unless killed before; says whether it was a full one."""
        after, start, floor = self.progress.after, self.progress.start, self.progress.floor
        found = sorted(
            each for each in self.rows if (each > after if after is not None else start is None or each[0] >= start)
        )[:BATCH]
        for number, each in enumerate(found):
            row = Row(each, floor is None or each[0] >= floor, ())
            if not self.progress.knows(row):
                if number == kill_at:
                    self.start()
                    return True
                self.kept.update(self.progress.record(row))
                self.told.append(each)
            self.progress.passed(row)
        return len(found) == BATCH


STEPS = st.one_of(
    st.tuples(st.just("insert"), st.integers(-12, 12), st.integers(0, 3)),
    st.tuples(st.just("page"), st.integers(0, 5), st.just(0)),
    st.tuples(st.just("begin"), st.just(0), st.just(0)),
)


@given(st.lists(STEPS, max_size=60))
def test_what_comes_within_the_window_is_told_once(steps: list[tuple[str, int, int]]) -> None:
    table = Table()
    for what, one, other in steps:
        if what == "insert":
            table.insert(one, other)
        elif what == "page":
            if not table.page(one):
                table.begin_pass()
        elif table.is_within():
            table.begin_pass()
    for _ in range(2):
        while table.page(-1):
            pass
        table.begin_pass()
    while table.page(-1):
        pass
    assert len(set(table.told)) == len(table.told)
    assert table.owed <= set(table.told)
