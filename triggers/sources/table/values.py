"""What a database gives, as JSON: for the payload of an event, and for a position that is found again."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_interface, ip_network
from typing import Any, cast
from uuid import UUID

from asyncstore import JsonValue

from ..texts import mend_text

__all__ = ["freeze", "thaw", "to_json"]


def _seconds(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


_THAW: dict[str, Any] = {
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "decimal": Decimal,
    "float": float,
    "uuid": UUID,
    "bytes": bytes.fromhex,
    "seconds": _seconds,
    "address": ip_interface,
    "network": ip_network,
}


def freeze(value: Any) -> JsonValue:
    """Give a value of a column so that `thaw` gives it back.

    :param value: what the database gave.
    :raises ValueError: it is of a type that no position can be made of.
    """
    match value:
        case None | bool() | int() | str():
            return cast("JsonValue", value)
        case float() if math.isfinite(value):
            return value
        case float() if math.isinf(value):
            return {"float": str(value)}
        case datetime():
            return {"datetime": value.isoformat()}
        case date():
            return {"date": value.isoformat()}
        case time():
            return {"time": value.isoformat()}
        case Decimal() if value.is_finite():
            return {"decimal": str(value)}
        case UUID():
            return {"uuid": str(value)}
        case bytes():
            return {"bytes": value.hex()}
        case timedelta():
            return {"seconds": value.total_seconds()}
        case IPv4Address() | IPv6Address():
            return {"address": str(value)}
        case IPv4Network() | IPv6Network():
            return {"network": str(value)}
        case _:
            raise ValueError(f"{value!r} in the column or the key: nothing that can be found again")


def thaw(value: JsonValue) -> Any:
    """Give back what `freeze` took.

    :param value: what it gave.
    """
    if isinstance(value, dict):
        ((kind, text),) = value.items()
        return _THAW[kind](text)
    return value


def to_json(value: Any, declared: str = "") -> JsonValue:
    """Give a value of a row as JSON.

    Dates and times become ISO 8601, decimals and UUIDs text, bytes Base64, intervals seconds; JSON stays what it is,
    NaN and infinities become text.

    :param value: what the database gave.
    :param declared: `json`, `boolean` or `decimal` where the column says so and the database may not.
    """
    match value:
        case None | bool():
            return cast("JsonValue", value)
        case int() | float() if declared == "boolean" and value in (0, 1):
            return bool(value)
        case int() | float() | Decimal() if declared == "decimal":
            return str(value)
        case str() if declared == "json":
            return _parsed(value)
        case int():
            return int(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case str():
            return mend_text(str(value))
        case _:
            return _other(value)


def _other(value: Any) -> JsonValue:
    match value:
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes() | bytearray():
            return base64.b64encode(value).decode()
        case Mapping():
            return {mend_text(str(name)): to_json(each) for name, each in cast("Any", value).items()}
        case list() | tuple() | set() | frozenset():
            return [to_json(each) for each in cast("list[Any]", value)]
        case _:
            return str(value)


def _parsed(text: str) -> JsonValue:
    try:
        return to_json(json.loads(text))
    except ValueError:  # SQLite keeps what is no JSON, too
        return text
