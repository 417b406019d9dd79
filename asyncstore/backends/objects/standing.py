"""Objects that stand without a row: one for each key, overwritten in place, its expiry in its first line."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from datetime import datetime

from ...clock import Clock, from_microseconds, to_microseconds
from ...errors import StoreCorruptError
from ...offload.abc import Place
from ...offload.hooks import in_worker_thread
from ...records import ExpiredRow
from ...scopes import Scope, TaskScope
from .content import Header, Mismatch, read_text, small_object
from .places import VALUE, parse, reference_of
from .storage import Missing, Objects

__all__ = ["StandingObjects", "place_of"]

_log = logging.getLogger(__name__)

#: Objects that are read at once at most.
_AT_ONCE = 32


def place_of(scope: Scope, key: str) -> Place:
    """Say where a key of a scope belongs."""
    if isinstance(scope, TaskScope):
        return Place("task", scope.ti_id, key)
    return Place("asset", scope.name or scope.uri or f"asset {scope.asset_id}", key)


class StandingObjects:
    """Keep JSON text under a key.

    :param objects: where to.
    :param compression: how.
    :param clock: tells what has expired.
    """

    def __init__(self, objects: Objects, compression: str | None, clock: Clock) -> None:
        self._objects = objects
        self._compression = compression
        self._clock = clock

    async def get(self, at: str) -> tuple[Header, str] | None:
        """Read the object of a folder; None where it is absent or expired."""
        found = await self._read(at)
        return None if found is None or self._is_expired(found[0]) else found

    async def _read(self, at: str) -> tuple[Header, str] | None:
        try:
            data = await self._objects.get(f"{at}/{VALUE}")
            return await in_worker_thread(lambda: read_text(data))
        except Missing:
            return None
        except Mismatch as error:
            raise StoreCorruptError(
                f"the object {at}/{VALUE} in {self._objects}: {error}; set the key anew, or remove the object"
            ) from error

    def _is_expired(self, header: Header) -> bool:
        return header.expires_at is not None and header.expires_at <= self._clock.microseconds()

    async def set(self, place: Place, text: str, expires_at: datetime | None) -> str:
        """Write a key; gives its folder."""
        expiry = None if expires_at is None else to_microseconds(expires_at)
        data = await in_worker_thread(lambda: small_object(place, text, self._compression, expiry))
        at = reference_of(place)
        await self._objects.put(f"{at}/{VALUE}", data)
        return at

    async def remove(self, folders: Sequence[str]) -> None:
        """Remove the objects of folders."""
        await self._objects.remove([f"{at}/{VALUE}" for at in folders])

    async def folders(self, prefix: str | None) -> AsyncIterator[list[str]]:
        """List the folders of keys below a folder, page by page."""
        async for page in self._objects.list(prefix):
            found = [parse(path) for path, _ in page]
            yield [each.at for each in found if each is not None and each.name == VALUE]

    async def headers(self, folders: Sequence[str], *, damaged: bool = True) -> list[tuple[str, Header]]:
        """Read the first lines of the objects of folders, those that have expired included.

        :param damaged: raise for objects that cannot be read; else pass over them, which the log tells.
        """
        turns = asyncio.Semaphore(_AT_ONCE)

        async def read(at: str) -> tuple[str, Header] | None:
            async with turns:
                try:
                    found = await self._read(at)
                except StoreCorruptError as error:
                    if damaged:
                        raise
                    _log.warning("passed over: %s", error)
                    return None
            return None if found is None else (at, found[0])

        return [each for each in await asyncio.gather(*map(read, folders)) if each is not None]

    async def keys(self, scope: Scope) -> list[str]:
        """List the keys of a scope."""
        prefix = reference_of(place_of(scope, "key")).rpartition("/")[0]
        found: list[str] = []
        async for page in self.folders(prefix):
            headers = await self.headers(page)
            found += [header.place.key for _, header in headers if not self._is_expired(header)]
        return sorted(found)

    async def clear(self, scope: Scope, all_map_indices: bool) -> None:
        """Remove every key of a scope."""
        prefix = reference_of(place_of(scope, "key")).rpartition("/")[0]
        if all_map_indices and isinstance(scope, TaskScope):
            prefix = prefix.rpartition("/")[0]
        async for page in self.folders(prefix):
            await self.remove(page)

    async def remove_expired(self, folders: Sequence[str]) -> int:
        """Remove those objects that are expired still; gives how many.

        Object storage removes without a condition: what is written between this look and the removal is lost.
        """
        gone = [at for at, header in await self.headers(folders, damaged=False) if self._is_expired(header)]
        await self.remove(gone)
        return len(gone)

    async def expired(self) -> list[tuple[str, ExpiredRow]]:
        """List what has expired, in the order of its expiry, each with its folder."""
        rows: list[tuple[str, ExpiredRow]] = []
        async for page in self.folders(None):
            tasks = [at for at in page if not at.startswith("assets/")]
            for at, header in await self.headers(tasks, damaged=False):
                if header.place.kind == "task" and header.expires_at is not None and self._is_expired(header):
                    scope = TaskScope.from_ti_id(header.place.owner)
                    rows.append((at, ExpiredRow(scope, header.place.key, from_microseconds(header.expires_at))))
        return sorted(rows, key=lambda row: row[1].expires_at)
