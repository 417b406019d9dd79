"""State of one asset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..blocking import drive
from ..changes import Clear
from ..core import Core
from ..errors import AssetNotFoundError
from ..records import Lease
from ..scopes import Asset, AssetScope, Scope
from .base import StateAccessor, Update

__all__ = ["AssetStoreAccessor"]


def _no_expiry() -> None:
    return None


class AssetStoreAccessor(StateAccessor):
    """Read and write the state of one asset, which is kept until it is deleted.

    :param core: the store's core.
    :param target: an `Asset`, which is registered at the first operation, or an `AssetScope`, which must be known.
    :param canonical: the scope is one that the backend gave, and needs no look-up.
    :param updated_by: who writes, kept beside each value.
    :param lease: the claim that every write stands on.
    """

    _of_task = False

    def __init__(
        self,
        core: Core,
        target: Asset | AssetScope,
        *,
        canonical: bool = False,
        updated_by: str | None = None,
        lease: Lease | None = None,
    ) -> None:
        super().__init__(core, updated_by=updated_by, lease=lease)
        self._target = target
        self._resolved = core.resolved(target) if isinstance(target, Asset) else target if canonical else None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._target}>"

    async def _scope(self) -> Scope:
        if self._resolved is None:
            target = self._target
            found = self._core.resolve_anew(target) if isinstance(target, Asset) else self._core.locate(target)
            self._resolved = await found
        return self._resolved

    async def _again(self, error: AssetNotFoundError) -> Scope:
        # Somebody deleted the asset since it was resolved: declared again, it is a new one.
        if not isinstance(self._target, Asset):
            raise error
        scope = self._resolved = await self._core.resolve_anew(self._target)
        return scope

    async def aset(self, key: str, value: Any, *, if_version: int | None = None, session: Any = None) -> None:
        """Write or overwrite a value.

        :param key: 1 to 512 bytes of UTF-8.
        :param value: any JSON value but None.
        :param if_version: write only if this version is stored; 0: only if the key is absent.
        :raises TypeError: JSON cannot hold the value.
        :raises ValueError: the key or value is refused.
        :raises ValueTooLargeError: the value's JSON is too long.
        :raises VersionConflictError: another version is stored.
        :raises AssetInactiveError: the asset is deactivated.
        """
        await self._set(key, value, None, if_version, session)

    def set(self, key: str, value: Any, *, if_version: int | None = None, session: Any = None) -> None:
        """Do what `aset` does, from sync code."""
        drive(self.aset(key, value, if_version=if_version, session=session))

    async def aset_many(self, mapping: Mapping[str, Any], *, session: Any = None) -> None:
        """Write several values, or none of them.

        :param mapping: the values by key.
        """
        await self._set_many(mapping, None, session)

    def set_many(self, mapping: Mapping[str, Any], *, session: Any = None) -> None:
        """Do what `aset_many` does, from sync code."""
        drive(self.aset_many(mapping, session=session))

    async def aupdate(self, key: str, function: Update, *, default: Any = None, session: Any = None) -> Any:
        """Read a value, change it and write it back without losing anybody's update in between.

        :param key: the key.
        :param function: gives the new value for the old one; sync or async. It is called again where somebody else
            wrote meanwhile, so it should do nothing but compute.
        :param default: what the function gets where the key is absent.
        :return: the new value.
        """
        return await self._update(key, function, default, _no_expiry, session)

    def update(self, key: str, function: Update, *, default: Any = None, session: Any = None) -> Any:
        """Do what `aupdate` does with a sync function, from sync code."""
        return drive(self.aupdate(key, function, default=default, session=session))

    async def aadvance(self, key: str, value: str | float, *, session: Any = None) -> bool:
        """Move a watermark forward, never back.

        :param key: the key.
        :param value: a number, or a string compared by code points.
        :return: whether `value` is greater than what was stored, and so was written.
        :raises TypeError: the two do not compare.
        """
        return await self._advance(key, value, _no_expiry, session)

    def advance(self, key: str, value: str | float, *, session: Any = None) -> bool:
        """Do what `aadvance` does, from sync code."""
        return drive(self.aadvance(key, value, session=session))

    async def aclear(self, *, session: Any = None) -> None:
        """Remove every value of the asset."""
        if self._core.commits:
            await self._commit(lambda scope: (Clear(scope),), session)
        else:
            await self._at(lambda scope: self._core.clear(scope, False, session))

    def clear(self, *, session: Any = None) -> None:
        """Do what `aclear` does, from sync code."""
        drive(self.aclear(session=session))
