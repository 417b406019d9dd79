"""What a source shows now and was recorded: one key of the asset's state for each thing, looked up page by page."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import anyio.lowlevel

from asyncstore import AssetStoreAccessors

__all__ = ["Seen", "digest"]

#: Hexadecimal digits of a digest that name a thing: 128 bits, so that no two are ever alike.
_DIGITS = 32
#: Things up to which their keys are listed in one go; beyond, in as many as there are pairs of digits.
_FEW = 20_000


def digest(data: bytes) -> str:
    """Name a thing by what tells it from others.

    :param data: that.
    """
    return blake2b(data, digest_size=_DIGITS // 2).hexdigest()


class Seen:
    """Know which things of a source were recorded, without holding them.

    A thing is named by a `digest`. In memory are eight bytes for each thing that a look has come across so far; what
    was recorded of a thing is read with the page it stands on.

    :param state: the state of the watched asset.
    :param prefix: of the keys; nobody else's begin with it.
    :param absences: a thing is forgotten when so many whole looks in a row have missed it.
    """

    def __init__(self, state: AssetStoreAccessors, prefix: str, *, absences: int = 1) -> None:
        self._state = state
        self._prefix = prefix
        self._absences = absences
        self._kept: int | None = None
        self._missing: dict[int, int] = {}
        self._looked = self._empty()

    def _empty(self) -> list[array[int]]:
        return [array("Q") for _ in range(256)]

    def key(self, name: str) -> str:
        """Give the key of the state for a thing.

        :param name: its digest.
        """
        return f"{self._prefix}/{name}"

    def begin(self) -> None:
        """Begin a look at everything that the source shows."""
        self._looked = self._empty()

    async def page(self, names: Sequence[str]) -> dict[str, Any]:
        """Take note that things are there, and read what was recorded of them.

        :param names: their digests; some hundreds.
        :return: what was recorded, by digest.
        """
        for name in names:
            self._looked[int(name[:2], 16)].append(int(name[:16], 16))
        start = len(self._prefix) + 1
        found = await self._state.aget_many([self.key(name) for name in names])
        return {key[start:]: value for key, value in found.items()}

    def added(self) -> None:
        """Take note that a thing was recorded that was not known."""
        if self._kept is not None:
            self._kept += 1

    async def finish(self) -> int:
        """End a look that has come across everything, and forget what it has missed; gives how many."""
        there = 0
        for part in self._looked:
            there += len(set(part))
            if len(part) > 1000:
                await anyio.lowlevel.checkpoint()
        if there == self._kept:  # all that is there is known, so nothing else is
            return 0
        gone = await self._forget(there)
        self._looked = self._empty()
        return gone

    async def _forget(self, there: int) -> int:
        few = there <= _FEW and (self._kept or 0) <= _FEW
        kept = gone = 0
        missing: dict[int, int] = {}
        for pair in [""] if few else [f"{number:02x}" for number in range(256)]:
            parts = self._looked if few else [self._looked[int(pair, 16)]]
            looked = {number for part in parts for number in part}
            start = len(self._prefix) + 1
            for key in await self._state.akeys(f"{self._prefix}/{pair}"):
                number = int(key[start : start + 16], 16)
                if number in looked:
                    kept += 1
                    continue
                times = self._missing.get(number, 0) + 1
                if times < self._absences:
                    missing[number] = times
                    kept += 1
                else:
                    await self._state.adelete(key)
                    gone += 1
        self._kept, self._missing = kept, missing
        return gone
