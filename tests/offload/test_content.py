"""What is in an object: encoding in pieces, compression, digests."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncstore import ConfigurationError, WorkerBackendError
from asyncstore.backends.objects import content, encoding
from asyncstore.backends.objects.compression import check_compression, compressed, decompressing
from asyncstore.backends.objects.content import Mismatch, Written, read, read_header, write
from asyncstore.offload.abc import Place
from asyncstore.offload.weighing import is_small
from asyncstore.values import decode, encode

PLACE = Place("task", "dag/run/task/-1", "key")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=50,
).filter(lambda value: value is not None)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "_CHARACTERS", 7)
    monkeypatch.setattr(encoding, "_PARTS", 5)
    monkeypatch.setattr(encoding, "_BYTES", 11)


def outcome(function: Any, value: object) -> object:
    try:
        found: object = function(value)
        return found
    except (TypeError, ValueError) as error:
        return type(error)


def in_pieces(value: object) -> str:
    return b"".join(encoding.json_pieces(value)).decode()


@given(json_values)
def test_pieces_are_what_the_whole_is(value: object) -> None:
    encoding._CHARACTERS, encoding._PARTS, encoding._BYTES = 7, 5, 11  # pyright: ignore[reportPrivateUsage]
    assert outcome(in_pieces, value) == outcome(encode, value)


@pytest.mark.parametrize(
    "value",
    [None, {1}, {1: 2}, [0] * 100 + [{1}], float("nan"), ["x"] * 100 + [float("inf")], "x" * 100 + "\ud800", 10**5000],
    ids=list("abcdefgh"),
)
def test_what_is_refused_as_a_whole_is_refused_in_pieces(value: object) -> None:
    expected = outcome(encode, value)
    assert expected in {TypeError, ValueError}
    assert outcome(in_pieces, value) == expected


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ValueError, match="nested"):
        list(encoding.json_pieces(loop))
    assert is_small(loop) is False


@pytest.mark.parametrize("compression", [None, "gzip", "bz2", "lzma", "xz"])
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("value", ["x" * 300, {"a": list(range(500)), "ä": "😀" * 50}, 1])
def test_what_is_written_is_read(
    value: Any, whole: bool, compression: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not whole:
        monkeypatch.setattr(content, "WHOLE", 0)
    made = write(PLACE, value, 0, compression)
    assert isinstance(made, Written)
    assert (made.whole is not None) == whole
    data = b"".join(made.pieces())
    if whole and compression is None:
        assert data == made.whole
    assert read(io.BytesIO(made.whole or data), made.size, made.digest) == decode(encode(value))
    assert made.size == len(encode(value).encode())
    header = read_header(io.BytesIO(data))
    assert (header.place, header.compression) == (PLACE, compression)
    with pytest.raises(Mismatch, match="digest"):
        read(io.BytesIO(data), made.size, "0" * 64)
    with pytest.raises(Mismatch):
        read(io.BytesIO(data[:-1]), made.size, made.digest)
    with pytest.raises(Mismatch):
        read(io.BytesIO(data), made.size - 1, made.digest)


def test_two_writes_of_one_value_are_two_objects() -> None:
    first, second = write(PLACE, 1, 0, None), write(PLACE, 1, 0, None)
    assert isinstance(first, Written)
    assert isinstance(second, Written)
    assert first.digest != second.digest


def test_what_is_shorter_than_the_threshold_stays_in_the_store() -> None:
    assert write(PLACE, "abc", 6, None) == '"abc"'
    assert isinstance(write(PLACE, "abc", 5, None), Written)
    assert write(PLACE, "x" * 100, 200, None) == json.dumps("x" * 100)


@pytest.mark.parametrize("data", [b"", b"\n", b"{}\n", b"x" * 100_000, b'{"asyncstore":1}\n', b"[1]\n"])
def test_another_object_is_told_from_ours(data: bytes) -> None:
    with pytest.raises(Mismatch):
        read(io.BytesIO(data), 1, "0" * 64)


def test_a_value_that_is_changed_while_it_is_written_is_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "WHOLE", 0)
    value = [1, 2, 3]
    made = write(PLACE, value, 0, "gzip")
    assert isinstance(made, Written)
    value.append(4)
    with pytest.raises(WorkerBackendError, match="was changed while"):
        list(made.pieces())


@given(st.lists(st.binary(max_size=1000)), st.sampled_from(["gzip", "bz2", "lzma"]))
def test_compression_in_pieces_gives_back_what_it_got(pieces: list[bytes], name: str) -> None:
    packed = io.BytesIO(b"".join(compressed(pieces, name)))
    assert decompressing(packed, name).read() == b"".join(pieces)


@pytest.mark.parametrize("name", ["nothing", "zip"])
def test_an_unknown_compression_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"compression = '{name}'.*gzip"):
        check_compression(name)
    check_compression("gzip")
