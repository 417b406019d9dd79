from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncstore import Event, ExpiredRow, TaskScope
from asyncstore.cli.output import emit, event_line, expired_line, pairs

AWKWARD = "naïve \U0001f600 'quote' \"double\" back\\slash tab\t line\nend \x9b31m\x7f \u2028\u2029 \x85 ключ"


def event(**changes: object) -> Event:
    fields: dict[str, object] = {
        "id": 7,
        "asset": "orders",
        "watcher": "scan",
        "payload": {"path": "a.csv"},
        "key": None,
        "created_at": datetime(2026, 11, 20, 1, 2, 3, 4, tzinfo=UTC),
    }
    return Event(**{**fields, **changes})  # type: ignore[arg-type]


def with_stdout(monkeypatch: pytest.MonkeyPatch, encoding: str) -> io.BytesIO:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    return written


def test_an_event_is_one_line_of_compact_json_in_a_fixed_order() -> None:
    assert event_line(event()) == (
        '{"id":7,"asset":"orders","watcher":"scan","key":null,'
        '"created_at":"2026-11-20T01:02:03.000004Z","payload":{"path":"a.csv"}}'
    )


def test_lines_sort_by_time_also_at_full_seconds() -> None:
    whole = json.loads(event_line(event(created_at=datetime(2026, 11, 20, tzinfo=UTC))))
    assert whole["created_at"] == "2026-11-20T00:00:00.000000Z"


def test_text_is_not_escaped_but_what_ends_lines_or_steers_terminals_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with_stdout(monkeypatch, "utf-8")
    line = event_line(event(payload=AWKWARD))
    assert "naïve \U0001f600" in line
    assert "ключ" in line
    assert line.splitlines() == [line]
    assert not any(character < " " or "\x7f" <= character <= "\x9f" for character in line)
    assert json.loads(line)["payload"] == AWKWARD


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1251", "utf-16"])
def test_text_is_escaped_where_stdout_is_not_utf8(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    with_stdout(monkeypatch, encoding)
    line = event_line(event(payload=AWKWARD))
    assert line.isascii()
    assert json.loads(line)["payload"] == AWKWARD


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("watermark", "watermark"),
        ("manual__2026-01-01T00:00:00+00:00", "manual__2026-01-01T00:00:00+00:00"),
        ("ключ", "ключ"),
        ("a b", '"a b"'),
        ("a=b", '"a=b"'),
        ('"a"', r'"\"a\""'),
        ("a\\b", r'"a\\b"'),
        ("a\nb", r'"a\nb"'),
        ("a\x9bb", r'"a\u009bb"'),
        ("a\u2028b", r'"a\u2028b"'),
        ("a\u202eb", r'"a\u202eb"'),
        ("a\u2066b", r'"a\u2066b"'),
        ("a\u00a0b", '"a\u00a0b"'),
    ],
)
def test_a_text_is_quoted_only_where_it_could_be_mistaken(
    monkeypatch: pytest.MonkeyPatch, text: str, written: str
) -> None:
    with_stdout(monkeypatch, "utf-8")
    assert pairs(key=text) == f"key={written}"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=2, max_size=2))
def test_two_texts_can_always_be_told_apart(texts: list[str]) -> None:
    line = pairs(a=texts[0], b=texts[1])
    read: list[str] = []
    rest = line
    for name in "ab":
        rest = rest.removeprefix(f"{name}=")
        if rest.startswith('"'):
            value, end = json.JSONDecoder().raw_decode(rest)
        else:
            end = len(rest.partition(" ")[0])
            value = rest[:end]
        read.append(value)
        rest = rest[end:].removeprefix(" ")
    assert read == texts
    assert rest == ""


def test_a_row_names_all_five_parts() -> None:
    row = ExpiredRow(TaskScope("etl", "run 1", "load", 3), "job_id", datetime(2026, 1, 2, tzinfo=UTC))
    assert expired_line(row) == 'dag=etl run="run 1" task=load map_index=3 key=job_id'
    assert expired_line(row, with_expiry=True) == f"{expired_line(row)} expired=2026-01-02T00:00:00Z"


def test_what_stdout_cannot_encode_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    written = with_stdout(monkeypatch, "ascii")
    emit(["Skipped: Бэкенд", "next"])
    assert written.getvalue().decode("ascii").splitlines() == [r"Skipped: \u0411\u044d\u043a\u0435\u043d\u0434", "next"]


def test_lines_are_written_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    written = with_stdout(monkeypatch, "utf-8")

    def lines() -> Iterator[str]:
        yield "first"
        sys.stdout.flush()
        assert written.getvalue() == b"first\n"
        yield "second"

    emit(lines())
    assert written.getvalue() == b"first\nsecond\n"


def test_without_stdout_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(click.ClickException, match="standard output is closed"):
        emit(["lost"])
