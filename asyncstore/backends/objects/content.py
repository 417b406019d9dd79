"""What is in an object: a line of JSON that says what it is, and behind it the value's JSON, compressed or not.

The line names the true key and its owner, however their path was cut, and holds a number that is drawn for each write.
The digest is that of the line and the JSON as it was before compression. So no two writes share an object, even of
equal values, and what one of them removes is never another's.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from secrets import token_hex
from typing import IO, Any

from ...errors import StoreCorruptError, StoreError, WorkerBackendError
from ...offload.abc import Place
from ...offload.hooks import Kind
from ...values import JsonValue, decode_yielding, encode
from .compression import compressed, decompressing
from .encoding import json_pieces

__all__ = [
    "MAX_WHOLE",
    "WHOLE",
    "Header",
    "Mismatch",
    "Written",
    "read",
    "read_header",
    "read_text",
    "small_object",
    "write",
]

_FORMAT = 1
#: Bytes of JSON up to which an object is made and read in one piece.
WHOLE = 4 * 1024 * 1024
#: Bytes of such an object at most: some compressions make what they cannot shorten a little longer.
MAX_WHOLE = WHOLE * 5 // 4
_READ = 1024 * 1024
_MAX_LINE = 64 * 1024


class Mismatch(Exception):
    """Say that an object is not what it should be."""


@dataclass(frozen=True, slots=True)
class Header:
    """Hold the first line of an object.

    :ivar place: what it belongs to.
    :ivar compression: of what follows.
    :ivar expires_at: microseconds; of objects that stand without a row.
    :ivar line: the line, with its end.
    """

    place: Place
    compression: str | None
    expires_at: int | None
    line: bytes


def _line(place: Place, compression: str | None, expires_at: int | None) -> bytes:
    facts: dict[str, Any] = {"asyncstore": _FORMAT, place.kind: place.owner, "key": place.key, "write": token_hex(16)}
    if compression is not None:
        facts["compression"] = compression
    if expires_at is not None:
        facts["expires_at"] = expires_at
    return encode(facts).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Written:
    """Hold an object that is to be put.

    :ivar digest: its digest.
    :ivar size: bytes of its JSON.
    :ivar whole: the object; None where it is large.
    :ivar pieces: gives a large object piece by piece.
    """

    digest: str
    size: int
    whole: bytes | None
    pieces: Callable[[], Iterator[bytes]]


def write(place: Place, value: object, threshold: int, compression: str | None) -> str | Written:
    """Make the object of a value, or give its JSON text where that is shorter than the threshold.

    Runs in a thread. A large value is gone through twice, once for the digest, so that it is nowhere in one piece.

    :raises TypeError: JSON cannot hold it, and so for `ValueError`.
    """
    line = _line(place, compression, None)
    digest = sha256(line)
    size = 0
    held: list[bytes] | None = []
    for piece in json_pieces(value):
        digest.update(piece)
        size += len(piece)
        if held is not None:
            held.append(piece)
            if size > WHOLE:
                held = None
    if size < threshold:
        return encode(value) if held is None else b"".join(held).decode()
    found = digest.hexdigest()
    whole = None if held is None else line + b"".join(compressed(held, compression))
    return Written(found, size, whole, lambda: _again(line, value, compression, found))


def _again(line: bytes, value: object, compression: str | None, expected: str) -> Iterator[bytes]:
    digest = sha256(line)

    def counted() -> Iterator[bytes]:
        for piece in json_pieces(value, checked=True):
            digest.update(piece)
            yield piece
        if digest.hexdigest() != expected:
            raise WorkerBackendError("the value was changed while it was being written; nothing was stored")

    yield line
    yield from compressed(counted(), compression)


def small_object(place: Place, text: str, compression: str | None, expires_at: int | None) -> bytes:
    """Make an object that stands without a row, from JSON text."""
    return _line(place, compression, expires_at) + b"".join(compressed([text.encode()], compression))


def read_header(file: IO[bytes]) -> Header:
    """Read the first line.

    :raises Mismatch: it is none of ours.
    """
    line = file.readline(_MAX_LINE)
    try:
        facts = json.loads(line)
        if facts["asyncstore"] != _FORMAT:
            raise StoreCorruptError("the object was written by a newer release; upgrade asyncstore")
        kind: Kind = "task" if "task" in facts else "asset"
        owner, key = facts[kind], facts["key"]
        if not isinstance(owner, str) or not isinstance(key, str):
            raise TypeError("it belongs to nothing")
        place = Place(kind, owner, key)
        return Header(place, facts.get("compression"), facts.get("expires_at"), line)
    except (ValueError, TypeError, KeyError) as error:
        raise Mismatch("its first line is not one that asyncstore wrote") from error


def read(file: IO[bytes], size: int, digest: str) -> JsonValue:
    """Read an object, hold it against its row, and give the value. Runs in a thread.

    :param file: the object.
    :param size: bytes of JSON that it should hold.
    :param digest: its digest.
    :raises Mismatch: it is another one.
    """
    header = read_header(file)
    found = sha256(header.line)
    buffer = bytearray(size)
    view = memoryview(buffer)
    length = 0
    try:
        body = decompressing(file, header.compression)
        while piece := body.read(_READ):
            if length + len(piece) > size:
                raise Mismatch(f"it holds more than the {size} bytes of its row")
            view[length : length + len(piece)] = piece
            length += len(piece)
            found.update(piece)
    except (StoreError, Mismatch, MemoryError):
        raise
    except Exception as error:  # each compression has errors of its own
        raise Mismatch(f"it cannot be decompressed ({error})") from error
    if found.hexdigest() != digest:
        raise Mismatch("its digest is not that of its row")
    view.release()
    text = str(buffer, "utf-8")
    del buffer  # before the value is made: so there are two of the three at a time
    return decode_yielding(text)


def read_text(data: bytes) -> tuple[Header, str]:
    """Read an object that stands without a row."""
    file = io.BytesIO(data)
    header = read_header(file)
    try:
        return header, decompressing(file, header.compression).read().decode()
    except (StoreError, MemoryError):
        raise
    except Exception as error:  # each compression has errors of its own
        raise Mismatch(f"it cannot be read ({error})") from error
