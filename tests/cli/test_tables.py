from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncstore.cli.tables import Align, Table, crop, escape, fold, width, wrap

HOSTILE = "\x1b[2J\x1b]0;owned\x07a\tb\nc\r\x9b31m\u202e\u2028"


@pytest.mark.parametrize(
    ("text", "cells"),
    [("", 0), ("abc", 3), ("é", 1), ("e\u0301", 1), ("表計", 4), ("한", 2), ("🙂", 2), ("ｆ", 2), ("a表b", 4)],
)
def test_width_counts_the_cells_of_a_terminal(text: str, cells: int) -> None:
    assert width(text) == cells


def test_what_does_not_print_is_escaped() -> None:
    assert escape(HOSTILE) == r"\x1b[2J\x1b]0;owned\x07a\tb\nc\r\x9b31m\u202e\u2028"
    assert escape("naïve 表 🙂") == "naïve 表 🙂"
    assert escape("naïve 表 🙂", ascii_only=True) == r"na\xefve \u8868 \U0001f642"


@given(st.text())
def test_an_escaped_text_prints_and_stays_on_its_line(text: str) -> None:
    assert escape(text).isprintable()
    assert escape(text, ascii_only=True).isascii()


@given(st.text(st.characters(categories=["L", "N", "Zs", "So"])), st.integers(8, 40))
def test_a_text_is_cut_and_broken_within_its_cells(text: str, cells: int) -> None:
    assert width(crop(text, cells, "…")) <= cells
    assert (crop(text, cells, "…") == text) == (width(text) <= cells)
    assert all(width(line) <= cells for line in fold(text, cells))
    assert "".join(fold(text, cells)) == text
    assert all(width(line) <= cells for line in wrap(text, cells))
    assert "".join(wrap(text, cells)).replace(" ", "") == text.replace(" ", "")


def test_words_stay_whole_where_they_can() -> None:
    assert wrap("one two three", 8) == ["one two", "three"]
    assert wrap("one two", 7) == ["one two"]
    assert wrap("abcdefghij k", 4) == ["abcd", "efgh", "ij k"]


def test_columns_fit_and_keep_what_matters() -> None:
    table = Table([Align("KEY"), Align("SIZE", right=True), Align("BY", cut=True)], 30)
    lines = table.lines([("k" * 20, "1,234", "cli:someone@somewhere"), ("short", "1", "x")])
    assert lines == ["kkkkkkkkkkkkk  1,234  cli:som…", "kkkkkkk", "short              1  x"]
    assert table.head() == "KEY             SIZE  BY"
    assert all(width(line) <= 30 for line in lines)


def test_wide_characters_do_not_shift_columns() -> None:
    table = Table([Align("KEY"), Align("N", right=True)], 80)
    assert table.lines([("表計", "1"), ("e\u0301", "22")]) == ["表計   1", "e\u0301     22"]


def test_later_pages_may_widen_a_column_and_never_overflow() -> None:
    table = Table([Align("KEY"), Align("N", right=True)], 20)
    assert table.lines([("a", "1")]) == ["a    1"]
    assert table.lines([("b" * 10, "2")]) == ["bbbbbbbbbb  2"]
    assert table.lines([("c" * 30, "3")]) == ["c" * 17 + "  3", "c" * 13]


@given(st.lists(st.tuples(st.text(), st.integers(0, 10**6), st.text()), min_size=1), st.integers(40, 100))
def test_no_row_is_wider_than_the_terminal(rows: list[tuple[str, int, str]], cells: int) -> None:
    table = Table([Align("A"), Align("N", right=True), Align("C", cut=True)], cells)
    lines = table.lines([(escape(a), str(number), escape(c)) for a, number, c in rows])
    assert max(map(width, [table.head(), *lines])) <= cells
    assert len(lines) >= len(rows)
