from __future__ import annotations

import base64
import dataclasses
import enum
import json
import math
import re
import sys
import threading
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, NamedTuple, cast
from uuid import UUID

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncstore import StoreCorruptError, StoreError, ValueTooLargeError
from asyncstore.values import MAX_NESTING, check_size, decode, encode

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT


def containers(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(children) | st.dictionaries(TEXT, children)


VALUES = st.recursive(SCALARS, containers, max_leaves=8).filter(lambda value: value is not None)


# What is accepted comes back.


@given(VALUES)
def test_every_json_value_comes_back(value: Any) -> None:
    text = encode(value)
    back = decode(text)
    assert back == value
    assert type(back) is type(value)
    assert encode(back) == text


@given(VALUES)
def test_the_text_is_compact_utf8_and_means_the_same_to_others(value: Any) -> None:
    text = encode(value)
    text.encode()
    assert text == json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


@given(st.recursive(SCALARS, lambda children: st.tuples(children, children) | st.lists(children), max_leaves=10))
def test_tuples_become_lists(value: Any) -> None:
    def lists(part: Any) -> Any:
        return [lists(each) for each in cast("list[Any]", part)] if isinstance(part, tuple | list) else part

    wrapped = (value, [value])
    assert decode(encode(wrapped)) == lists(wrapped)


@given(TEXT)
def test_no_text_is_escaped_that_need_not_be(text: str) -> None:
    escaped = encode(text)
    assert all(ord(char) < 128 for char in re.findall(r"\\u[0-9a-f]{4}", escaped) for char in char)
    assert [char for char in text if ord(char) >= 127] == [char for char in escaped if ord(char) >= 127]


class Color(enum.IntEnum):
    RED = 1


class Word(enum.StrEnum):
    YES = "yes"


class Point(NamedTuple):
    x: int
    y: int


WRITTEN: list[tuple[Any, str]] = [
    (True, "true"),
    (1, "1"),
    (1.0, "1.0"),
    (-0.0, "-0.0"),
    (10**300, "1" + "0" * 300),
    (5e-324, "5e-324"),
    ("", '""'),
    ("a\0b", '"a\\u0000b"'),
    ('"\\/', '"\\"\\\\/"'),
    ("ünï🦆", '"ünï🦆"'),
    ([], "[]"),
    ({}, "{}"),
    ({"": [None]}, '{"":[null]}'),
    (Point(1, 2), "[1,2]"),
    (Color.RED, "1"),
    (Word.YES, '"yes"'),
    ({Word.YES: Color.RED}, '{"yes":1}'),
    (OrderedDict(b=1, a=2), '{"b":1,"a":2}'),
    (defaultdict(int, a=1), '{"a":1}'),
]


@pytest.mark.parametrize(("value", "text"), WRITTEN, ids=repr)
def test_how_a_value_is_written(value: Any, text: str) -> None:
    assert encode(value) == text


# What is refused.


@dataclasses.dataclass
class Job:
    id: int


class Model(pydantic.BaseModel):
    id: int = 1


class Plain(enum.Enum):
    RED = "red"


class Array:
    """What numbers of numpy look like."""

    def tolist(self) -> list[int]:
        return [1]


class Later(datetime):
    """What other libraries derive their times from."""


def generate() -> Iterator[int]:
    yield 1


INSTEAD: list[tuple[Any, str]] = [
    (datetime(2026, 1, 1, tzinfo=UTC), "value.isoformat()"),
    (Later(2026, 1, 1, tzinfo=UTC), "value.isoformat()"),
    (date(2026, 1, 1), "value.isoformat()"),
    (time(1), "value.isoformat()"),
    (timedelta(1), "value.total_seconds()"),
    (b"x", "base64.b64encode(value).decode()"),
    (bytearray(b"x"), "base64.b64encode(value).decode()"),
    (memoryview(b"x"), "base64.b64encode(value).decode()"),
    ({1}, "sorted(value)"),
    (frozenset({1}), "sorted(value)"),
    (Decimal("1.5"), "str(value)"),
    (Fraction(1, 2), "str(value)"),
    (UUID(int=1), "str(value)"),
    (PurePosixPath("x"), "str(value)"),
    (Path("x"), "str(value)"),
    (1j, "[value.real, value.imag]"),
    (Plain.RED, "value.value"),
    (range(3), "list(value)"),
    (generate(), "list(value)"),
    (deque([1]), "list(value)"),
    (MappingProxyType({}), "dict(value)"),
    (Job(1), "dataclasses.asdict(value)"),
    (Model(), "value.model_dump(mode='json')"),
    (Array(), "value.tolist()"),
    (object(), "a dict, list or string"),
    (print, "a dict, list or string"),
]


@pytest.mark.parametrize(("value", "instead"), INSTEAD, ids=lambda value: type(value).__name__)
def test_what_json_cannot_hold_says_what_to_store_instead(value: Any, instead: str) -> None:
    name = type(value).__name__
    for nested, path in ((value, "value"), ([0, value], "value[1]"), ({"a": {"b": (value,)}}, "value['a']['b'][0]")):
        with pytest.raises(TypeError) as caught:
            encode(nested)
        assert str(caught.value) == f"{path} is a {name}, which JSON cannot hold; store {instead} instead"


def test_what_the_texts_say_works() -> None:
    scope = {"base64": base64, "dataclasses": dataclasses}
    for value, instead in (
        (datetime(2026, 1, 1, tzinfo=UTC), "value.isoformat()"),
        (b"\xff", "base64.b64encode(value).decode()"),
        (Job(1), "dataclasses.asdict(value)"),
        (Model(), "value.model_dump(mode='json')"),
        ({2, 1}, "sorted(value)"),
        (1j, "[value.real, value.imag]"),
    ):
        with pytest.raises(TypeError, match=re.escape(instead)):
            encode(value)
        encode(eval(instead, scope, {"value": value}))


def test_none_is_refused_at_the_top_only() -> None:
    with pytest.raises(ValueError, match=r"None cannot be stored: absent keys read as None\. To remove a value use"):
        encode(None)
    assert encode([None, {"a": None}]) == '[null,{"a":null}]'


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none(value: float) -> None:
    for nested, path in ((value, "value"), ([[value]], "value[0][0]"), ({"a": value}, "value['a']")):
        with pytest.raises(ValueError, match=re.escape(f"{path} is {value}, which JSON cannot hold")):
            encode(nested)


@pytest.mark.parametrize("key", [1, 1.5, True, None, (1,), b"x", date(2026, 1, 1)])
def test_keys_that_are_no_strings(key: Any) -> None:
    for nested, path in (({key: 1}, "value"), ([{"a": {key: 1}}], "value[0]['a']")):
        with pytest.raises(TypeError) as caught:
            encode(nested)
        assert str(caught.value).startswith(f"{path} has the key {key!r} ({type(key).__name__})")
        assert str(caught.value).endswith("store str(key)")


@given(st.characters(categories=["Cs"]), TEXT, TEXT)
def test_lone_surrogates_are_refused_wherever_they_are(surrogate: str, before: str, after: str) -> None:
    text = before + surrogate + after
    for value in (text, [text], {"a": text}, {text: 1}):
        with pytest.raises(ValueError, match=r"holds a lone surrogate.*percent-encode"):
            encode(value)


def test_numbers_of_thousands_of_digits() -> None:
    assert decode(encode(10**4000)) == 10**4000
    for value in (10**5000, -(10**5000), [10**5000], {"a": (10**5000,)}):
        with pytest.raises(ValueError, match=r"cannot be written as JSON: .*; store .*as .*string"):
            encode(value)


def nested(depth: int, kind: type = list) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if kind is list else {"a": value}
    return value


@pytest.mark.parametrize("kind", [list, dict])
def test_nesting(kind: type) -> None:
    deepest = nested(MAX_NESTING, kind)
    assert decode(encode(deepest)) == deepest
    for depth in (MAX_NESTING + 1, 10_000):
        with pytest.raises(ValueError, match=f"nested deeper than {MAX_NESTING} levels"):
            encode(nested(depth, kind))


def test_what_contains_itself() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="contains itself"):
        encode(endless)
    loop: dict[str, Any] = {}
    loop["a"] = {"b": [loop]}
    with pytest.raises(ValueError, match="contains itself"):
        encode(loop)


def test_what_was_written_can_be_read_from_a_deep_stack() -> None:
    text = encode(nested(MAX_NESTING))

    def deep(frames: int) -> Any:
        return deep(frames - 1) if frames else decode(text)

    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(deep(sys.getrecursionlimit() - MAX_NESTING - 100)))
    thread.start()
    thread.join()
    assert found == [nested(MAX_NESTING)]


@pytest.mark.parametrize("text", ["", "{", "nul", "[1,", '"\\ud8', "1" * 5000, "[" * 100_000])
def test_text_that_something_else_wrote(text: str) -> None:
    with pytest.raises(StoreCorruptError, match="write the key anew, or delete it") as caught:
        decode(text)
    assert caught.value.__cause__ is not None


# How long a value may be.


@given(VALUES, st.integers(1, 60))
def test_the_limit_counts_bytes_of_utf8(value: Any, limit: int) -> None:
    text = encode(value)
    size = len(text.encode())
    if size <= limit:
        check_size(text, limit, "key")
    else:
        with pytest.raises(ValueTooLargeError):
            check_size(text, limit, "key")
    check_size(text, 0, "key")


@pytest.mark.parametrize("char", ["x", "ü", "€", "🦆"])
def test_the_limit_is_exact(char: str) -> None:
    size = len(char.encode())
    text = encode(char * 100)
    check_size(text, 100 * size + 2, "key")
    with pytest.raises(ValueTooLargeError) as caught:
        check_size(text, 100 * size + 1, "the key")
    message = str(caught.value)
    assert "'the key'" in message
    assert f"is {100 * size + 2} bytes" in message
    assert f"the {100 * size + 1} bytes of [state_store] max_value_storage_bytes" in message
    assert "worker-side backend" in message
    assert isinstance(caught.value, StoreError)
    assert isinstance(caught.value, ValueError)
