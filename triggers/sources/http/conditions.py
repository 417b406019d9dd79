"""Asking only for what changed: what an answer said of itself, sent back with the next request."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from asyncstore import AssetStoreAccessors, JsonValue

from ..seen import digest
from .address import masked
from .client import Answer

__all__ = ["Conditions"]

_LONGEST = 1000


class Conditions:
    """Keep the validators of an answer that was the whole listing: `ETag`, or `Last-Modified`.

    They are stored when every event of that answer is committed, and never before: the API would say that nothing has
    changed, and what a crash had left out would be lost.

    :param state: the state of the watched asset.
    :param key: of the state.
    :param reading: how answers are read; read in another way, they are asked for in full again.
    """

    def __init__(self, state: AssetStoreAccessors, key: str, reading: str) -> None:
        self._state = state
        self._key = key
        self._reading = reading
        self._kept: dict[str, Any] = {}
        self._noted: dict[str, Any] = {}

    async def recall(self) -> None:
        """Read what is kept."""
        self._kept = await self._state.aget(self._key, {})

    def forget(self) -> None:
        """Ask for everything, the next time."""
        self._kept = {}

    def _of(self, url: str) -> str:
        return digest(f"{self._reading} {masked(url)}".encode())

    def headers(self, url: str) -> Mapping[str, str]:
        """Give the headers that make a request conditional (RFC 9110, section 13.1).

        :param url: of the request.
        """
        if self._kept.get("of") != self._of(url):
            return {}
        names = {"etag": "If-None-Match", "modified": "If-Modified-Since"}
        return {header: self._kept[name] for name, header in names.items() if name in self._kept}

    def note(self, url: str, answer: Answer | None) -> None:
        """Take note of the first answer of a listing.

        :param url: of the request.
        :param answer: the answer; None where others belong to the listing, which it knows nothing of.
        """
        fields: Mapping[str, str] = {} if answer is None else answer.headers
        etag, modified = fields.get("etag", ""), fields.get("last-modified", "")
        self._noted = {}
        if 0 < len(etag) <= _LONGEST:
            self._noted = {"of": self._of(url), "etag": etag}
        elif modified and _is_past(modified, fields.get("date", "")):
            self._noted = {"of": self._of(url), "modified": modified}

    def changed(self) -> dict[str, JsonValue]:
        """Give what is to be stored once every event of the answer is committed."""
        if not self._noted or self._noted == self._kept:
            return {}
        self._kept = self._noted
        return {self._key: self._kept}


def _is_past(modified: str, date: str) -> bool:
    # Within the second of the answer it may change once more (RFC 9110, section 8.8.2.2).
    try:
        return (parsedate_to_datetime(date) - parsedate_to_datetime(modified)).total_seconds() >= 1
    except (ValueError, TypeError):
        return False
