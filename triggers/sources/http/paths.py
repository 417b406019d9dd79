"""Finding a value in JSON by a dotted path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

__all__ = ["ABSENT", "check_path", "find"]


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"


#: Stands for what is not there; None is a value.
ABSENT: Any = _Absent()


def find(value: Any, path: str) -> Any:
    """Give what a path leads to: `data.items`, `links.0.href`; `ABSENT` where it leads nowhere.

    A key may hold dots itself (`@odata.nextLink`): the longest one that is there counts.

    :param value: JSON.
    :param path: keys and indexes, with dots between them; an empty one leads to the value itself.
    """
    if not path:
        return value
    if isinstance(value, list):
        index, _, rest = path.partition(".")
        entries = cast("Sequence[Any]", value)
        return find(entries[int(index)], rest) if index.isdecimal() and int(index) < len(entries) else ABSENT
    if not isinstance(value, dict):
        return ABSENT
    fields = cast("dict[str, Any]", value)
    end = len(path)
    while end > 0:
        if path[:end] in fields:
            return find(fields[path[:end]], path[end + 1 :])
        end = path.rfind(".", 0, end)
    return ABSENT


def check_path(name: str, path: str) -> None:
    """Refuse what is no path.

    :param name: the argument.
    :param path: its value.
    :raises ValueError: it is none.
    """
    if path and not all(path.split(".")):
        raise ValueError(f"{name} is a path such as 'data.items', not {path!r}")
