"""Values as JSON in pieces: what is large is never one text, and other threads get their turn between the pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

from ...offload.weighing import weigh
from ...values import check_value, dump, refuse_surrogates

__all__ = ["json_pieces"]

#: Characters of a piece of a long string, and parts of a piece of a container.
_CHARACTERS = 256 * 1024
_PARTS = 4096
#: Bytes that are collected before they are handed on.
_BYTES = 256 * 1024


def json_pieces(value: object, *, checked: bool = False) -> Iterator[bytes]:
    """Write a value as compact JSON in UTF-8, as `values.encode` does in one piece.

    :param value: any value.
    :param checked: it went through here before.
    :raises TypeError: JSON cannot hold it, and so for `ValueError`.
    """
    if not checked:
        check_value(value)
    collected: list[str] = []
    length = 0
    for text in _pieces(value):
        refuse_surrogates(text)
        collected.append(text)
        length += len(text)
        if length >= _BYTES:
            yield "".join(collected).encode()
            collected.clear()
            length = 0
    if collected:
        yield "".join(collected).encode()


def _pieces(value: object) -> Iterator[str]:
    if weigh(value, _PARTS) >= 0:
        yield dump(value)
    elif isinstance(value, str):
        yield '"'
        for start in range(0, len(value), _CHARACTERS):
            yield dump(value[start : start + _CHARACTERS])[1:-1]
        yield '"'
    elif isinstance(value, dict):
        yield "{"
        yield from _joined(_of_dict(cast("dict[str, object]", value)))
        yield "}"
    elif isinstance(value, list | tuple):
        yield "["
        yield from _joined(_of_list(cast("list[object]", value)))
        yield "]"
    else:
        yield dump(value)


def _joined(parts: Iterable[Iterator[str]]) -> Iterator[str]:
    first = True
    for part in parts:
        if not first:
            yield ","
        first = False
        yield from part


def _of_list(items: Iterable[object]) -> Iterator[Iterator[str]]:
    # Small items go together, as many as weigh as much as one piece.
    group: list[object] = []
    budget = _PARTS
    for item in items:
        left = weigh(item, budget)
        if left < 0:
            if group:
                yield iter((dump(group)[1:-1],))
                group, budget = [], _PARTS
            left = weigh(item, budget)
            if left < 0:
                yield _pieces(item)
                continue
        group.append(item)
        budget = left
    if group:
        yield iter((dump(group)[1:-1],))


def _of_dict(items: dict[str, object]) -> Iterator[Iterator[str]]:
    group: dict[str, object] = {}
    budget = _PARTS
    for key, item in items.items():
        left = weigh(item, weigh(key, budget))
        if left < 0:
            if group:
                yield iter((dump(group)[1:-1],))
                group, budget = {}, _PARTS
            left = weigh(item, weigh(key, budget))
            if left < 0:
                yield _entry(key, item)
                continue
        group[key] = item
        budget = left
    if group:
        yield iter((dump(group)[1:-1],))


def _entry(key: str, item: object) -> Iterator[str]:
    yield from _pieces(key)
    yield ":"
    yield from _pieces(item)
