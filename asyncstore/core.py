"""What every accessor of a store shares: the backend and how it is called, the clock, the limits, the assets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from .abc import BaseStoreBackend, Capability, poll
from .blocking import inline
from .changes import Commit, CommitResult
from .clock import Clock, from_microseconds, to_microseconds
from .errors import ConfigurationError
from .records import StoredEntry
from .registration import carried
from .scopes import Asset, AssetScope, Scope, TaskScope
from .values import REFERENCE_MARKS, JsonValue, check_size, decode, encode

__all__ = ["Closing", "Core"]

T = TypeVar("T")

#: Marks stored text that carries its expiry, for backends that cannot keep one beside it.
_EXPIRES = "asyncstore:expires_at"


class Closing(Protocol):
    """Be something that is to be closed before the backend is."""

    async def aclose(self) -> None:
        """Let go of what it holds."""
        ...


class Core:
    """Call a backend from coroutines and from sync code, whatever it can do by itself.

    :param backend: the backend.
    :param clock: tells when values expire.
    :param max_value_bytes: the largest value as JSON; 0 for no limit.
    :param default_retention: of task state; None for never.
    :raises ConfigurationError: the backend declares capabilities that do not go together.
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
        self._expires = Capability.EXPIRY in backend.capabilities
        #: The backend commits changes and events together.
        self.commits = self.can(Capability.COMMIT)
        if self.commits and not self._expires:
            raise ConfigurationError(
                f"{type(backend).__name__} declares Capability.COMMIT without Capability.EXPIRY: an `if_version` is "
                "decided by the backend, which must know what has expired"
            )
        self._carries = type(backend).aregister_asset is BaseStoreBackend.aregister_asset
        self._assets: dict[tuple[str | None, str | None], AssetScope] = {}
        #: What reads events now, and gives back what it has in hand when the store is closed.
        self.readers: set[Closing] = set()

    #: Values go elsewhere before a commit, and come from there after a read (`offload.layer`).
    keeps = False
    #: Reads a value from what `get` gave.
    decode: Callable[[str], JsonValue] = staticmethod(decode)

    async def aopen(self) -> None:
        """Open what belongs to the core itself: nothing here."""

    async def aclose(self) -> None:
        """Let go of what belongs to the core itself. Harmless when repeated."""

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

    #: Writes a value as JSON text that stays in the store.
    encode_inline = encode

    def check_allows(self, operation: str, *, of_task: bool) -> None:
        """Refuse an operation that is not possible where the values go; here every one is."""

    async def prepare(self, commit: Commit) -> Commit:
        """Bring the values of a commit to where they go, before it is made; it may be made again and again."""
        return commit

    async def collect(
        self, known: Sequence[str], *, dry_run: bool, tell: Callable[[Sequence[str]], None]
    ) -> tuple[int, str | None]:
        """Remove what values left behind elsewhere; here nothing is elsewhere.

        :param known: what goes anyway, and must not be counted twice.
        :param dry_run: only tell.
        :param tell: is told what goes, page by page.
        :return: how much went, or would; and why some was skipped, None where none was.
        """
        return 0, None

    async def removed(self) -> None:
        """Take note that rows were deleted by the backend itself."""

    async def call(self, function: Callable[[], Awaitable[T]]) -> T:
        """Await a coroutine of the backend; from sync code, in the way the backend offers."""
        if inline():
            return self.backend.run_blocking(function)
        return await function()

    def get(self, scope: Scope, key: str, session: Any = None) -> Awaitable[str | None]:
        """Read the text of one key, None where it is absent or expired."""
        # The everyday case goes straight to the backend: each coroutine in between costs every read.
        if self._expires and not inline():
            return self.backend.aget(scope, key, session=session)
        return self._get(scope, key, session)

    async def _get(self, scope: Scope, key: str, session: Any) -> str | None:
        text = await self._read(scope, key, session)
        return text if self._expires or text is None else self._unpack(text)[0]

    async def _read(self, scope: Scope, key: str, session: Any = None) -> str | None:
        if inline():
            return self.backend.get(scope, key, session=session)
        return await self.backend.aget(scope, key, session=session)

    async def get_entry(self, scope: Scope, key: str, session: Any = None) -> StoredEntry | None:
        """Read one key with its version and times, None where it is absent or expired."""
        entry = await self.call(lambda: self.backend.aget_entry(scope, key, session=session))
        if self._expires or entry is None:
            return entry
        text, expires_at = self._unpack(entry.text)
        return None if text is None else replace(entry, text=text, expires_at=expires_at)

    async def get_many(self, scope: Scope, keys: list[str], session: Any = None) -> dict[str, str]:
        """Read the texts of several keys; those that are absent or expired are left out."""
        return await self._read_many(scope, keys, session)

    async def _read_many(self, scope: Scope, keys: list[str], session: Any) -> dict[str, str]:
        if self.can(Capability.MANY):
            found = await self.call(lambda: self.backend.aget_many(scope, keys, session=session))
            pairs = [(key, text if self._expires else self._unpack(text)[0]) for key, text in found.items()]
        else:
            pairs = [(key, await self._get(scope, key, session)) for key in keys]
        return {key: text for key, text in pairs if text is not None}

    async def list_keys(self, scope: Scope, prefix: str, session: Any = None) -> list[str]:
        """List the keys that begin with a prefix, in the order of their code points."""
        keys = await self.call(lambda: self.backend.alist_keys(scope, prefix, session=session))
        if self._expires or not keys or not isinstance(scope, TaskScope):
            return keys
        found = await self._read_many(scope, keys, session)  # the backend does not know which have expired
        return [key for key in keys if key in found]

    def commit(self, commit: Commit, session: Any = None) -> Awaitable[CommitResult]:
        """Make changes and record events in one transaction."""
        if inline():
            return self.call(lambda: self.backend.acommit(commit, session=session))
        return self.backend.acommit(commit, session=session)

    async def set(self, scope: Scope, key: str, text: str, expires_at: datetime | None, session: Any = None) -> None:
        """Write one key of a backend that cannot commit."""
        packed = text if self._expires else _pack(scope, text, expires_at)
        await self._write(scope, key, packed, expires_at, session)

    async def _write(
        self, scope: Scope, key: str, text: str, expires_at: datetime | None = None, session: Any = None
    ) -> None:
        if inline():
            self.backend.set(scope, key, text, expires_at=expires_at, session=session)
        else:
            await self.backend.aset(scope, key, text, expires_at=expires_at, session=session)

    async def delete(self, scope: Scope, key: str, session: Any = None) -> None:
        """Remove one key of a backend that cannot commit."""
        if inline():
            self.backend.delete(scope, key, session=session)
        else:
            await self.backend.adelete(scope, key, session=session)

    async def clear(self, scope: Scope, all_map_indices: bool, session: Any = None) -> None:
        """Remove every key of a scope of a backend that cannot commit."""
        if inline():
            self.backend.clear(scope, all_map_indices=all_map_indices, session=session)
        else:
            await self.backend.aclear(scope, all_map_indices=all_map_indices, session=session)

    def watch(self, scope: Scope, key: str) -> AsyncIterator[str | None]:
        """Follow one key."""
        if self._expires and self.can(Capability.WATCHING):
            return self.backend.awatch(scope, key)
        return poll(lambda: self.get(scope, key), self.backend.watch_interval)

    def _unpack(self, text: str) -> tuple[str | None, datetime | None]:
        # The text, None where it has expired; and until when it is kept.
        if _EXPIRES not in text or text.startswith(REFERENCE_MARKS):
            return text, None
        kept = decode(text)
        if not isinstance(kept, dict) or kept.keys() not in ({_EXPIRES, "value"}, {_EXPIRES, "reference"}):
            return text, None
        expiry = kept[_EXPIRES]
        inner = encode(kept["value"]) if "value" in kept else str(kept["reference"])
        if not isinstance(expiry, int):
            return inner, None
        fresh = expiry > self.clock.microseconds()
        return inner if fresh else None, from_microseconds(expiry)

    def resolved(self, asset: Asset) -> AssetScope | None:
        """Give the canonical scope of an asset that was resolved before, None for another."""
        return self._assets.get((asset.explicit_name, asset.explicit_uri))

    async def resolve_anew(self, asset: Asset) -> AssetScope:
        """Give the canonical scope of an asset; registers it the first time, and after it was deleted."""
        if self._carries:
            scope = await carried.register(self._read, self._write, asset, self.clock.microseconds())
        else:
            scope = await self.call(lambda: self.backend.aregister_asset(asset))
        self._assets[asset.explicit_name, asset.explicit_uri] = scope
        return scope

    async def resolve_all(self, assets: Sequence[Asset]) -> list[AssetScope]:
        """Give the canonical scopes of assets, in the order given; registers those that are new."""
        if self._carries:
            return [await self.resolve_anew(asset) for asset in assets]
        found = await self.call(lambda: self.backend.aregister_assets(assets))
        for asset, scope in zip(assets, found, strict=True):
            self._assets[asset.explicit_name, asset.explicit_uri] = scope
        return found

    async def locate(self, scope: AssetScope) -> AssetScope:
        """Give the canonical scope of a registered asset, where the backend does not find it by itself.

        :raises AssetNotFoundError: nothing is registered there.
        """
        return await carried.locate(self._read, scope) if self._carries else scope


def _pack(scope: Scope, text: str, expires_at: datetime | None) -> str:
    # Only task state expires. What could be taken for a packed value is packed as well.
    if _EXPIRES not in text and (expires_at is None or not isinstance(scope, TaskScope)):
        return text
    expiry = "null" if expires_at is None else to_microseconds(expires_at)
    if text.startswith(REFERENCE_MARKS):
        return f'{{"{_EXPIRES}":{expiry},"reference":{encode(text)}}}'
    return f'{{"{_EXPIRES}":{expiry},"value":{text}}}'
