"""Texts that a source gives and no store takes."""

from __future__ import annotations

import re
from typing import Any, cast

__all__ = ["mend", "mend_text"]

_LONE = re.compile(r"[\ud800-\udfff]")


def mend_text(text: str) -> str:
    """Put U+FFFD for every half of a surrogate pair, which JSON can escape and which is no Unicode text.

    :param text: what the source gave.
    """
    return text if text.isascii() else _LONE.sub("\N{REPLACEMENT CHARACTER}", text)


def mend(value: Any) -> Any:
    """Do what `mend_text` does, in every text of a JSON value, names included.

    :param value: what the source gave, parsed.
    """
    match value:
        case str():
            return mend_text(value)
        case dict():
            return {mend_text(name): mend(each) for name, each in cast("dict[str, Any]", value).items()}
        case list():
            return [mend(each) for each in cast("Any", value)]
        case _:
            return value
