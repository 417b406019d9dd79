"""What the store holds in the place of a value that a worker-side backend keeps.

A reference is a mark and a JSON object. The marks begin no JSON text, so that no value, whatever it contains, can be
mistaken for a reference, nor a reference for a value. There are two: `@` for an object that is never overwritten, which
the size and digest name; `&` for one that a third party's backend overwrites, against which they are held.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ..errors import StoreCorruptError
from ..values import REFERENCE_MARKS, JsonValue

__all__ = ["IMMUTABLE", "IN_PLACE", "Loaded", "Pending", "Reference", "is_reference", "path_of"]

IMMUTABLE, IN_PLACE = REFERENCE_MARKS


@dataclass(frozen=True, slots=True)
class Reference:
    """Say where a value is, and what it is.

    :param at: the reference, which depends on the task instance or asset and on the key alone.
    :param size: bytes of the value as JSON.
    :param digest: SHA-256, in hexadecimal, of what was written.
    :param kept_by: the class that overwrites in place; None for immutable objects.
    :param place: the `ti_id` or the asset's name, and the key; of what is overwritten in place, to remove it by.
    """

    at: str
    size: int
    digest: str
    kept_by: str | None = None
    place: tuple[str, str, str] | None = None

    @property
    def text(self) -> str:
        """Return the text for the store."""
        facts: dict[str, Any] = {"at": self.at, "size": self.size, "digest": self.digest}
        mark = IMMUTABLE
        if self.kept_by is not None:
            mark = IN_PLACE
            facts |= {"kept_by": self.kept_by, "place": self.place}
        return mark + json.dumps(facts, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read what `text` gave.

        :raises StoreCorruptError: something else wrote it.
        """
        try:
            facts = json.loads(text[1:])
            place = facts.get("place")
            return cls(
                str(facts["at"]),
                int(facts["size"]),
                str(facts["digest"]),
                facts["kept_by"] if text.startswith(IN_PLACE) else None,
                None if place is None else (str(place[0]), str(place[1]), str(place[2])),
            )
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise StoreCorruptError(
                f"what is stored looks like a reference and is none that asyncstore wrote: {text[:200]!r}"
            ) from error


def is_reference(text: str) -> bool:
    """Tell a reference from a value."""
    return text.startswith(REFERENCE_MARKS)


def path_of(text: str) -> str:
    """Give the path of what a reference refers to, for people."""
    reference = Reference.parse(text)
    return reference.at if reference.kept_by is not None else f"{reference.at}/{reference.digest}"


class Pending(str):
    """Be a value on its way to a worker-side backend, in the place of its text.

    :ivar value: the value.
    """

    __slots__ = ("value",)
    value: object

    @classmethod
    def of(cls, value: object) -> Pending:
        """Hold a value."""
        made = cls("(a value on its way to a worker-side backend)")
        made.value = value
        return made


class Loaded(str):
    """Be a reference as it is stored, together with the value that it led to.

    :ivar value: the value.
    """

    __slots__ = ("value",)
    value: JsonValue

    @classmethod
    def of(cls, text: str, value: JsonValue) -> Loaded:
        """Hold both."""
        made = cls(text)
        made.value = value
        return made
