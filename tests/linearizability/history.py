"""What was asked of a key, when, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

__all__ = ["Kind", "Operation", "dump", "load"]

Kind = Literal["get", "get_entry", "set", "delete"]


@dataclass(frozen=True, slots=True)
class Operation:
    """One call, from before it was made until after it had returned.

    :ivar key: the key, and whose it is.
    :ivar kind: what was called.
    :ivar invoked: when, by a clock that all processes share.
    :ivar returned: when; None where nobody knows what became of it, so that it may happen later or never.
    :ivar value: what was written, or what was read; None for absent.
    :ivar version: the version that was written or read; None where it was not told, 0 for absent.
    :ivar if_version: the version that had to be stored.
    :ivar actual: the version that was stored instead: the call was refused.
    """

    key: str
    kind: Kind
    invoked: int
    returned: int | None
    value: str | None = None
    version: int | None = None
    if_version: int | None = None
    actual: int | None = None

    def __str__(self) -> str:
        parts = [f"{name}={value!r}" for name, value in asdict(self).items() if value is not None]
        return f"{self.kind}({', '.join(parts)})"


def dump(operations: Iterable[Operation]) -> Iterator[str]:
    """Write operations, one a line."""
    return (json.dumps(asdict(each)) for each in operations)


def load(lines: Iterable[str]) -> list[Operation]:
    """Read operations again."""
    return [Operation(**json.loads(line)) for line in lines]
