"""From the bytes of an answer to its items."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ..seen import digest
from ..texts import mend
from .client import AwayError
from .paths import ABSENT, find

__all__ = ["Item", "Page", "Shape", "read_page"]

_SHOWN = 10
_LABEL = 200
#: What may be half of a pair.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_KINDS = {"dict": "an object", "str": "a text", "NoneType": "null"}


@dataclass(frozen=True, slots=True)
class Shape:
    """Say where in an answer is what.

    :ivar items: the list of items; empty where the answer is that list.
    :ivar id: of an item, what tells it from others; empty for all of it.
    :ivar watermark: of an item, what grows from item to item; empty where nothing does.
    :ivar next: where the next page is; empty where the answer does not say.
    """

    items: str
    id: str
    watermark: str
    next: str


@dataclass(frozen=True, slots=True)
class Item:
    """Hold an item.

    :ivar value: all of it.
    :ivar name: a digest of its id; where it has none, of all of it.
    :ivar content: a digest of all of it.
    :ivar at: its watermark; None where it has none.
    :ivar label: what people call it: its id; None where it has none.
    """

    value: Any
    name: str
    content: str
    at: Any
    label: str | None


@dataclass(frozen=True, slots=True)
class Page:
    """Hold what an answer says.

    :ivar items: in its order.
    :ivar next: what it says about the next page; `ABSENT` where nothing.
    :ivar content: a digest of the items.
    """

    items: Sequence[Item]
    next: Any
    content: str


def read_page(body: bytes, shape: Shape, content_type: str) -> Page:
    """Read an answer; long ones in a thread.

    :param body: JSON; empty for no items.
    :param shape: where is what.
    :param content_type: what the answer says it is, for people.
    :raises AwayError: it is no JSON, or of another shape.
    """
    if not body.strip():
        return Page((), ABSENT, "")
    try:
        answer: Any = json.loads(body, parse_constant=_refuse, parse_float=_float)
        if _SURROGATE.search(body):
            answer = mend(answer)
        items = find(answer, shape.items)
        if not isinstance(items, list):
            raise AwayError(_unlike(answer, shape.items))
        found = [_item(each, shape) for each in cast("Sequence[Any]", items)]
    except (ValueError, RecursionError):
        said = f" but {content_type[:60]!r}" if content_type and "json" not in content_type.lower() else ""
        raise AwayError(f"the answer is no JSON{said}, or broke off") from None
    content = digest("".join(each.content for each in found).encode())
    return Page(found, find(answer, shape.next) if shape.next else ABSENT, content)


def _float(text: str) -> float | str:
    value = float(text)
    return value if math.isfinite(value) else text  # 1e999 would be infinite, which is no JSON


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _unlike(answer: Any, path: str) -> str:
    where = f"at {path!r}" if path else "as its answer"
    found = find(answer, path)
    kind = "nothing" if found is ABSENT else _KINDS.get(type(found).__name__, "a number or boolean")
    text = f"the API gives {kind} {where}, where a list of items should be"
    keys = ", ".join(repr(each[:40]) for each in _keys(answer))
    return f"{text}; at the top are {keys}" if keys else text


def _keys(answer: Any) -> Iterator[str]:
    return iter(list(cast("dict[str, Any]", answer))[:_SHOWN] if isinstance(answer, dict) else [])


def _item(value: Any, shape: Shape) -> Item:
    content = digest(_canonical(value))
    found = find(value, shape.id) if shape.id else ABSENT
    has_id = isinstance(found, str | int | float) and not isinstance(found, bool)
    name = digest(b"id " + _canonical(found)) if has_id else content
    at = find(value, shape.watermark) if shape.watermark else None
    comparable = isinstance(at, str | int | float) and not isinstance(at, bool)
    return Item(value, name, content, at if comparable else None, str(found)[:_LABEL] if has_id else None)


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
