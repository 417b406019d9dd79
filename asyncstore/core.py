"""What every accessor of a store shares: the backend and how it is called, the clock, the limits, the assets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from typing import TypeVar

from .abc import BaseStoreBackend, Capability, poll
from .backends.in_place import InPlaceBackend
from .blocking import inline
from .changes import Commit, CommitResult
from .clock import Clock, to_microseconds
from .scopes import Asset, AssetScope, Scope, TaskScope
from .values import check_size, decode, encode

__all__ = ["Core"]

T = TypeVar("T")

#: Marks stored text that carries its expiry, for backends that cannot keep one beside it.
_EXPIRES = "asyncstore:expires_at"


class Core:
    """Call a backend from coroutines and from sync code, whatever it can do by itself.

    :param backend: the backend.
    :param clock: tells when values expire.
    :param max_value_bytes: the largest value as JSON; 0 for no limit.
    :param default_retention: of task state; None for never.
    """

    def __init__(
        self,
        backend: BaseStoreBackend,
        *,
        clock: Clock,
        max_value_bytes: int,
        default_retention: timedelta | None,
    ) -> None:
        self.backend = backend
        self.clock = clock
        self.default_retention = default_retention
        self._max_value_bytes = max_value_bytes
        self._in_place = isinstance(backend, InPlaceBackend)
        self._expires = Capability.EXPIRY in backend.capabilities
        self._assets: dict[tuple[str | None, str | None], AssetScope] = {}

    def can(self, capability: Capability) -> bool:
        """Tell whether the backend declares a capability."""
        return capability in self.backend.capabilities

    def encode(self, key: str, value: object) -> str:
        """Write a value as JSON text within the limit.

        :raises ValueTooLargeError: it is too long.
        """
        text = encode(value)
        check_size(text, self._max_value_bytes, key)
        return text

    async def call(self, function: Callable[[], Awaitable[T]]) -> T:
        """Await a coroutine of the backend; from sync code, in the way the backend offers."""
        if self._in_place or not inline():
            return await function()
        return self.backend.run_blocking(function)

    async def get(self, scope: Scope, key: str) -> str | None:
        """Read the text of one key, None where it is absent or expired."""
        if self._in_place or not inline():
            text = await self.backend.aget(scope, key)
        else:
            text = self.backend.get(scope, key)
        return text if self._expires or text is None else self._unpack(text)

    async def get_many(self, scope: Scope, keys: list[str]) -> dict[str, str]:
        """Read the texts of several keys; those that are absent or expired are left out."""
        if self.can(Capability.MANY):
            found = await self.call(lambda: self.backend.aget_many(scope, keys))
            pairs = [(key, text if self._expires else self._unpack(text)) for key, text in found.items()]
        else:
            pairs = [(key, await self.get(scope, key)) for key in keys]
        return {key: text for key, text in pairs if text is not None}

    async def commit(self, commit: Commit) -> CommitResult:
        """Make changes and record events in one transaction."""
        return await self.call(lambda: self.backend.acommit(commit))

    async def set(self, scope: Scope, key: str, text: str, expires_at: datetime | None) -> None:
        """Write one key of a backend that cannot commit."""
        if not self._expires:
            text = _pack(scope, text, expires_at)
        if inline():
            self.backend.set(scope, key, text, expires_at=expires_at)
        else:
            await self.backend.aset(scope, key, text, expires_at=expires_at)

    async def delete(self, scope: Scope, key: str) -> None:
        """Remove one key of a backend that cannot commit."""
        if inline():
            self.backend.delete(scope, key)
        else:
            await self.backend.adelete(scope, key)

    async def clear(self, scope: Scope, all_map_indices: bool) -> None:
        """Remove every key of a scope of a backend that cannot commit."""
        if inline():
            self.backend.clear(scope, all_map_indices=all_map_indices)
        else:
            await self.backend.aclear(scope, all_map_indices=all_map_indices)

    def watch(self, scope: Scope, key: str) -> AsyncIterator[str | None]:
        """Follow one key."""
        if self.can(Capability.WATCHING):
            return self.backend.awatch(scope, key)
        return poll(lambda: self.get(scope, key), self.backend.watch_interval)

    def _unpack(self, text: str) -> str | None:
        if _EXPIRES not in text:
            return text
        kept = decode(text)
        if not isinstance(kept, dict) or kept.keys() != {_EXPIRES, "value"}:
            return text
        expiry = kept[_EXPIRES]
        if isinstance(expiry, int) and expiry <= self.clock.microseconds():
            return None
        return encode(kept["value"])

    async def resolve(self, asset: Asset) -> AssetScope:
        """Give the canonical scope of an asset; registers it the first time."""
        place = (asset.explicit_name, asset.explicit_uri)
        return self._assets.get(place) or await self.resolve_anew(asset)

    async def resolve_anew(self, asset: Asset) -> AssetScope:
        """Give the canonical scope of an asset that may have been deleted since it was resolved."""
        scope = await self.call(lambda: self.backend.aregister_asset(asset))
        self._assets[asset.explicit_name, asset.explicit_uri] = scope
        return scope

    def forget(self, scope: AssetScope) -> None:
        """Resolve anew what was resolved to this scope."""
        self._assets = {place: kept for place, kept in self._assets.items() if kept != scope}


def _pack(scope: Scope, text: str, expires_at: datetime | None) -> str:
    # Only task state expires. What could be taken for a packed value is packed as well.
    if not isinstance(scope, TaskScope) or (expires_at is None and _EXPIRES not in text):
        return text
    expiry = "null" if expires_at is None else to_microseconds(expires_at)
    return f'{{"{_EXPIRES}":{expiry},"value":{text}}}'
