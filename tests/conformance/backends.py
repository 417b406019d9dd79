"""Backends as a third party would write them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from asyncstore import AssetScope, BaseStoreBackend, Capability, Clock, Scope, StoredEntry


class MinimalBackend(BaseStoreBackend):
    """The four coroutines and nothing else, suspending for real."""

    def __init__(self) -> None:
        self.rows: dict[tuple[Scope, str], str] = {}
        self.calls: list[str] = []

    async def aget(self, scope: Scope, key: str, *, session: Any = None) -> str | None:
        self.calls.append("aget")
        await asyncio.sleep(0)
        return self.rows.get((scope, key))

    async def aset(
        self, scope: Scope, key: str, value: str, *, expires_at: datetime | None = None, session: Any = None
    ) -> None:
        self.calls.append("aset")
        await asyncio.sleep(0)
        self.rows[scope, key] = value
        await asyncio.sleep(0)

    async def adelete(self, scope: Scope, key: str, *, session: Any = None) -> None:
        self.calls.append("adelete")
        await asyncio.sleep(0)
        self.rows.pop((scope, key), None)

    async def aclear(self, scope: Scope, *, all_map_indices: bool = False, session: Any = None) -> None:
        self.calls.append("aclear")
        await asyncio.sleep(0)
        for place in [place for place in self.rows if _covers(scope, place[0], all_map_indices)]:
            del self.rows[place]


def _covers(scope: Scope, other: Scope, all_map_indices: bool) -> bool:
    if isinstance(scope, AssetScope) or isinstance(other, AssetScope) or not all_map_indices:
        return scope == other
    return (scope.dag_id, scope.run_id, scope.task_id) == (other.dag_id, other.run_id, other.task_id)


class DirectBackend(MinimalBackend):
    """A minimal backend with a direct way for sync code."""

    def get(self, scope: Scope, key: str, *, session: Any = None) -> str | None:
        self.calls.append("get")
        return self.rows.get((scope, key))

    def set(
        self, scope: Scope, key: str, value: str, *, expires_at: datetime | None = None, session: Any = None
    ) -> None:
        self.calls.append("set")
        self.rows[scope, key] = value

    def delete(self, scope: Scope, key: str, *, session: Any = None) -> None:
        self.calls.append("delete")
        self.rows.pop((scope, key), None)

    def clear(self, scope: Scope, *, all_map_indices: bool = False, session: Any = None) -> None:
        self.calls.append("clear")
        for place in [place for place in self.rows if _covers(scope, place[0], all_map_indices)]:
            del self.rows[place]


class UntimedBackend(MinimalBackend):
    """One that tells versions and lists keys, and knows nothing of expiry."""

    capabilities = Capability.ENTRIES | Capability.MANY | Capability.LISTING | Capability.WATCHING

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._entries: dict[tuple[Scope, str], tuple[int, datetime]] = {}

    async def aset(
        self, scope: Scope, key: str, value: str, *, expires_at: datetime | None = None, session: Any = None
    ) -> None:
        await super().aset(scope, key, value, expires_at=expires_at)
        now = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=self._clock.microseconds())
        self._entries[scope, key] = len(self.calls), now

    async def aget_entry(self, scope: Scope, key: str, *, session: Any = None) -> StoredEntry | None:
        text = await self.aget(scope, key)
        return None if text is None else StoredEntry(text, *self._entries[scope, key], None, None)

    async def aget_many(self, scope: Scope, keys: Sequence[str], *, session: Any = None) -> dict[str, str]:
        found = {key: await self.aget(scope, key) for key in keys}
        return {key: text for key, text in found.items() if text is not None}

    async def alist_keys(
        self,
        scope: Scope,
        prefix: str = "",
        *,
        after: str | None = None,
        limit: int | None = None,
        session: Any = None,
    ) -> list[str]:
        keys = sorted(key for owner, key in self.rows if owner == scope and key.startswith(prefix))
        return [key for key in keys if after is None or key > after][:limit]
