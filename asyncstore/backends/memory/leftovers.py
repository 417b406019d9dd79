"""The references that rows in memory hold no more."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import final
from uuid import uuid4

from ...offload.abc import Leftover, Leftovers
from .locking import Lock
from .tables import Tables

__all__ = ["MemoryLeftovers"]


@final
class MemoryLeftovers(Leftovers):
    """Give what the tables remember.

    :param tables: what the backend holds.
    :param lock: the backend's.
    """

    def __init__(self, tables: Tables, lock: Lock) -> None:
        self._tables = tables
        self._lock = lock
        self._identity = uuid4().hex

    async def alist(self, *, after: int = 0, limit: int) -> list[Leftover]:
        """List a page of them."""
        with self._lock:
            found = (Leftover(key, text) for key, text in self._tables.leftovers.items() if key > after)
            return list(islice(found, limit))

    async def aforget(self, ids: Sequence[int]) -> None:
        """Forget some."""
        with self._lock:
            for each in ids:
                self._tables.leftovers.pop(each, None)

    async def aidentity(self) -> str:
        """Give what was drawn when the backend was made."""
        return self._identity
