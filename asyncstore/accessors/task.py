"""State of one task instance."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, final

from ..blocking import drive
from ..changes import Clear
from ..core import Core
from ..retention import expiry
from ..scopes import Scope, TaskScope
from .base import StateAccessor, Update

__all__ = ["TaskStoreAccessor"]


@final
class TaskStoreAccessor(StateAccessor):
    """Read and write the state of one task instance; a retry sees what the attempt before it stored.

    Every write takes `retention`: a positive timedelta, `NEVER_EXPIRE`, or None for the configured default, which
    is computed anew at each write.

    :param core: the store's core.
    :param scope: the task instance.
    :param updated_by: who writes, kept beside each value.
    """

    _of_task = True

    def __init__(self, core: Core, scope: TaskScope, *, updated_by: str | None = None) -> None:
        if not isinstance(scope, TaskScope):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"task state belongs to a TaskScope, not to a {type(scope).__name__}")
        super().__init__(core, updated_by=updated_by)
        self.scope = self._resolved = scope

    def __repr__(self) -> str:
        return f"<TaskStoreAccessor of {self.scope}>"

    async def _scope(self) -> Scope:
        return self.scope

    def _expiry(self, retention: timedelta | None) -> datetime | None:
        return expiry(retention, self._core.default_retention, self._core.clock)

    async def aset(
        self,
        key: str,
        value: Any,
        *,
        retention: timedelta | None = None,
        if_version: int | None = None,
        session: Any = None,
    ) -> None:
        """Write or overwrite a value.

        :param key: 1 to 512 bytes of UTF-8.
        :param value: any JSON value but None.
        :param retention: how long it is kept from now on.
        :param if_version: write only if this version is stored; 0: only if the key is absent or expired.
        :raises TypeError: JSON cannot hold the value, or `retention` is of another type.
        :raises ValueError: the key, value or retention is refused.
        :raises ValueTooLargeError: the value's JSON is too long.
        :raises VersionConflictError: another version is stored.
        """
        await self._set(key, value, self._expiry(retention), if_version, session)

    def set(
        self,
        key: str,
        value: Any,
        *,
        retention: timedelta | None = None,
        if_version: int | None = None,
        session: Any = None,
    ) -> None:
        """Do what `aset` does, from sync code."""
        drive(self.aset(key, value, retention=retention, if_version=if_version, session=session))

    async def aset_many(
        self, mapping: Mapping[str, Any], *, retention: timedelta | None = None, session: Any = None
    ) -> None:
        """Write several values, or none of them.

        :param mapping: the values by key.
        :param retention: how long they are kept from now on.
        """
        await self._set_many(mapping, self._expiry(retention), session)

    def set_many(self, mapping: Mapping[str, Any], *, retention: timedelta | None = None, session: Any = None) -> None:
        """Do what `aset_many` does, from sync code."""
        drive(self.aset_many(mapping, retention=retention, session=session))

    async def aupdate(
        self,
        key: str,
        function: Update,
        *,
        default: Any = None,
        retention: timedelta | None = None,
        session: Any = None,
    ) -> Any:
        """Read a value, change it and write it back without losing anybody's update in between.

        :param key: the key.
        :param function: gives the new value for the old one; sync or async. It is called again where somebody else
            wrote meanwhile, so it should do nothing but compute.
        :param default: what the function gets where the key is absent or expired.
        :param retention: how long the value is kept from now on.
        :return: the new value.
        """
        return await self._update(key, function, default, lambda: self._expiry(retention), session)

    def update(
        self,
        key: str,
        function: Update,
        *,
        default: Any = None,
        retention: timedelta | None = None,
        session: Any = None,
    ) -> Any:
        """Do what `aupdate` does with a sync function, from sync code."""
        return drive(self.aupdate(key, function, default=default, retention=retention, session=session))

    async def aadvance(
        self, key: str, value: str | float, *, retention: timedelta | None = None, session: Any = None
    ) -> bool:
        """Move a watermark forward, never back.

        :param key: the key.
        :param value: a number, or a string compared by code points.
        :param retention: how long it is kept from now on, where it is written.
        :return: whether `value` is greater than what was stored, and so was written.
        :raises TypeError: the two do not compare.
        """
        return await self._advance(key, value, lambda: self._expiry(retention), session)

    def advance(self, key: str, value: str | float, *, retention: timedelta | None = None, session: Any = None) -> bool:
        """Do what `aadvance` does, from sync code."""
        return drive(self.aadvance(key, value, retention=retention, session=session))

    async def aclear(self, all_map_indices: bool = False, *, session: Any = None) -> None:
        """Remove every value of the task instance.

        :param all_map_indices: of every instance of the task, mapped or not.
        """
        if self._core.commits:
            await self._commit(lambda scope: (Clear(scope, all_map_indices),), session)
        else:
            await self._core.clear(self.scope, all_map_indices, session)

    def clear(self, all_map_indices: bool = False, *, session: Any = None) -> None:
        """Do what `aclear` does, from sync code."""
        drive(self.aclear(all_map_indices, session=session))
