"""Values as JSON text: what is accepted, what is refused, and what to store instead.

Stored text is compact and not escaped to ASCII (RFC 8259).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PurePath
from typing import cast
from uuid import UUID

from .errors import ConfigurationError, StoreCorruptError, ValueTooLargeError

__all__ = [
    "MAX_NESTING",
    "REFERENCE_MARKS",
    "JsonValue",
    "check_size",
    "check_value",
    "decode",
    "decode_yielding",
    "dump",
    "encode",
    "refuse_surrogates",
]

JsonValue = str | int | float | bool | list["JsonValue"] | dict[str, "JsonValue"] | None

#: How stored text begins that is no value but says where a worker-side backend keeps it (`offload.stored`). No JSON
#: begins so; what no such backend is configured for is thus found out by `decode` alone, at no cost for values.
REFERENCE_MARKS = ("@", "&")

#: Containers inside containers. The parser recurses, so what was written from a shallow stack must be readable
#: from a deep one; Python allows a thousand frames in all.
MAX_NESTING = 200

_dump: Callable[[object], str] = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def _container_dump() -> Callable[[object], str]:
    # `JSONEncoder.encode` makes its inner encoder anew for every value, which costs more than most values do. To keep
    # one is possible where Python has it in C; elsewhere, or should it change, the public way does.
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return _dump
    try:
        inner = make(None, _refuse, json.encoder.encode_basestring, None, ":", ",", False, False, False)
        sample: JsonValue = {"a": [1, 0.5, None, True, '"\u00e9', {}], "b": {}}
        if "".join(inner(sample, 0)) != _dump(sample):
            return _dump
    except Exception:
        return _dump
    return lambda value: "".join(inner(value, 0))


def _refuse(value: object) -> object:
    raise TypeError(f"{type(value).__name__} is no JSON")


_dump_nested = _container_dump()
_parse: Callable[[str], tuple[object, int]] = json.JSONDecoder().raw_decode

#: What to store instead of what JSON cannot hold, by its type or the nearest one above it.
_INSTEAD: dict[type, str] = {
    date: "value.isoformat()",  # of a datetime too
    time: "value.isoformat()",
    timedelta: "value.total_seconds()",
    bytes: "base64.b64encode(value).decode()",
    bytearray: "base64.b64encode(value).decode()",
    memoryview: "base64.b64encode(value).decode()",
    set: "sorted(value)",
    frozenset: "sorted(value)",
    complex: "[value.real, value.imag]",
    Decimal: "str(value)",
    UUID: "str(value)",
    Fraction: "str(value)",
    PurePath: "str(value)",
    Enum: "value.value",
}
#: And by a method or attribute that they have.
_INSTEAD_BY_ATTRIBUTE = {
    "model_dump": "value.model_dump(mode='json')",
    "tolist": "value.tolist()",
    "__dataclass_fields__": "dataclasses.asdict(value)",
}


def _instead(value: object) -> str:
    for kind, instead in _INSTEAD.items():
        if isinstance(value, kind):
            return instead
    for name, instead in _INSTEAD_BY_ATTRIBUTE.items():
        if hasattr(value, name):
            return instead
    if isinstance(value, Mapping):
        return "dict(value)"
    return "list(value)" if isinstance(value, Iterable) else "a dict, list or string"


def encode(value: object) -> str:
    """Write a value as JSON text.

    :param value: a `str`, `int`, `float`, `bool`, `list`, `tuple` (read back as a list) or `dict` of such with
        string keys, nested at most `MAX_NESTING` deep; `None` inside a container.
    :return: compact JSON, not escaped to ASCII.
    :raises TypeError: JSON cannot hold the value, or a key of a dict is no string; says what to store instead.
    :raises ValueError: the value is None, or holds NaN, an infinity, a lone surrogate, itself, or too deep nesting.
    """
    kind = type(value)
    if kind is str:
        text = _dump(value)
    elif kind is int or kind is bool:
        return _dump_number(value)
    elif value is None:
        raise ValueError("None cannot be stored: absent keys read as None. To remove a value use delete")
    else:
        text = _dump_container(value)
    refuse_surrogates(text)
    return text


def refuse_surrogates(text: str) -> None:
    """Refuse what is no Unicode text.

    :param text: JSON text, or a part of it.
    :raises ValueError: it holds a lone surrogate.
    """
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(
                "the value holds a lone surrogate, which is no Unicode text; percent-encode bytes that are not UTF-8"
            ) from None


def check_value(value: object) -> None:
    """Refuse what `encode` would refuse, but for lone surrogates and numbers of thousands of digits.

    :param value: the candidate.
    :raises TypeError: as `encode`, and so for `ValueError`.
    """
    if value is None:
        raise ValueError("None cannot be stored: absent keys read as None. To remove a value use delete")
    _walk(value, "value", 0)


def dump(value: object) -> str:
    """Write a part of a value that was checked as JSON text.

    :raises ValueError: a number has thousands of digits.
    """
    return _dump_number(value)


def _dump_number(value: object) -> str:
    try:
        return _dump(value)
    except ValueError as error:  # an int of more than 4,300 digits
        raise ValueError(f"the value cannot be written as JSON: {error}; store it as a string") from None


def _dump_container(value: object) -> str:
    # The walk comes first: the encoder would turn keys that are no strings into strings without a word.
    _walk(value, "value", 0)
    try:
        return _dump_nested(value)
    except ValueError as error:
        raise ValueError(f"the value cannot be written as JSON: {error}; store numbers so long as strings") from None


def _walk(value: object, path: str, depth: int) -> None:
    if value is None or isinstance(value, str | int):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{path} is {value}, which JSON cannot hold; store a string or leave it out")
        return
    if depth >= MAX_NESTING and isinstance(value, dict | list | tuple):
        raise ValueError(f"the value is nested deeper than {MAX_NESTING} levels, or contains itself; flatten it")
    if isinstance(value, dict):
        for key, item in cast("dict[object, object]", value).items():
            if not isinstance(key, str):
                raise TypeError(
                    f"{path} has the key {key!r} ({type(key).__name__}), but JSON keys are strings; store str(key)"
                )
            if item is not None and type(item) is not str and type(item) is not int:
                _walk(item, f"{path}[{key!r}]" if depth < 8 else path, depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(cast("list[object]", value)):
            if item is not None and type(item) is not str and type(item) is not int:
                _walk(item, f"{path}[{index}]" if depth < 8 else path, depth + 1)
    else:
        raise TypeError(f"{path} is a {type(value).__name__}, which JSON cannot hold; store {_instead(value)} instead")


def check_size(text: str, limit: int, key: str) -> None:
    """Refuse JSON text that is longer than the limit.

    :param text: the JSON text.
    :param limit: bytes of UTF-8; 0 for no limit.
    :param key: the key it is meant for.
    :raises ValueTooLargeError: it is longer.
    """
    if not limit or len(text) * 4 <= limit:
        return
    size = len(text) if text.isascii() else len(text.encode())
    if size > limit:
        raise ValueTooLargeError(
            f"the value of key {key!r} is {size} bytes as JSON, more than the {limit} bytes of "
            "[state_store] max_value_storage_bytes; keep it elsewhere and store where it is, raise the limit, or "
            "configure a worker-side backend"
        )


def _same(value: dict[str, object]) -> dict[str, object]:
    return value


def decode_yielding(text: str) -> JsonValue:
    """Read a large value as `decode` does, in a thread: other threads get their turn at each object of it.

    :param text: what `encode` gave.
    :raises StoreCorruptError: it is no JSON.
    """
    try:
        # The parser is one call, which keeps other threads out; but not while it calls back.
        return cast("JsonValue", json.loads(text, object_hook=_same))
    except (ValueError, RecursionError):
        return decode(text)  # says what is wrong


def decode(text: str) -> JsonValue:
    """Read a value from its JSON text.

    :param text: what `encode` gave.
    :raises StoreCorruptError: it is no JSON: something else wrote it.
    :raises ConfigurationError: a worker-side backend keeps the value, and none is configured.
    """
    try:
        # What `encode` wrote has nothing around it; what has, or is no JSON, is left to the whole parser.
        value, end = _parse(text)
        if end == len(text):
            return cast("JsonValue", value)
    except (ValueError, RecursionError):
        pass
    try:
        return cast("JsonValue", json.loads(text))
    except (ValueError, RecursionError) as error:
        if text.startswith(REFERENCE_MARKS):
            raise ConfigurationError(
                "the value is kept by a worker-side backend, and none is configured here that can read it: set "
                f"[workers] state_backend (what is stored is {text[:200]!r})"
            ) from None
        raise StoreCorruptError(
            f"what is stored is no JSON text that asyncstore wrote ({error}); write the key anew, or delete it"
        ) from error
