"""What state of a task and of an asset have in common.

Every operation is a coroutine; its sync twin, the same name without the `a`, runs that coroutine in place.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, ClassVar, TypeVar

from ..blocking import drive, inline, outside
from ..changes import Change, Commit, Delete, Put
from ..core import Core
from ..errors import AssetNotFoundError, UnsupportedOperationError, VersionConflictError
from ..records import Entry, Lease, StoredEntry
from ..scopes import Scope, check_key, check_text
from ..values import JsonValue, decode, encode

__all__ = ["StateAccessor", "Update"]

T = TypeVar("T")
Update = Callable[[Any], JsonValue | Awaitable[JsonValue]]


class StateAccessor(ABC):
    """Read and write the state of one scope.

    :param core: the store's core.
    :param updated_by: who writes, kept beside each value.
    :param lease: the claim that every write stands on; None for writes that stand on none.
    """

    def __init__(self, core: Core, *, updated_by: str | None = None, lease: Lease | None = None) -> None:
        self._core = core
        self._updated_by = updated_by
        self._lease = lease

    #: It is state of a task, not of an asset.
    _of_task: ClassVar[bool]
    #: The scope as the backend knows it, once that is known.
    _resolved: Scope | None = None

    @abstractmethod
    async def _scope(self) -> Scope:
        """Give the scope as the backend knows it."""

    async def _again(self, error: AssetNotFoundError) -> Scope:
        """Give the scope anew after the asset was not found, or raise that error again."""
        raise error

    async def _at(self, operation: Callable[[Scope], Awaitable[T]]) -> T:
        scope = await self._scope()
        try:
            return await operation(scope)
        except AssetNotFoundError as error:
            scope = await self._again(error)
        return await operation(scope)

    # Reads.

    async def aget(self, key: str, default: Any = None, *, session: Any = None) -> Any:
        """Read a value.

        :param key: 1 to 512 bytes of UTF-8.
        :param default: what to return where the key is absent or expired.
        :param session: an `AsyncSession` or `AsyncConnection` of the caller's to take part in; ignored by backends
            without SQL. Every operation takes one.
        :return: the value as JSON holds it (tuples come back as lists), or the default.
        :raises AssetInactiveError: the asset is deactivated.
        :raises DatabaseError: the database cannot be read.
        """
        check_key(key)
        scope = self._resolved
        if scope is None:
            scope = await self._scope()
        try:
            text = await self._core.get(scope, key, session)
        except AssetNotFoundError as error:
            scope = await self._again(error)
            text = await self._core.get(scope, key, session)
        return default if text is None else self._core.decode(text)

    def get(self, key: str, default: Any = None, *, session: Any = None) -> Any:
        """Do what `aget` does, from sync code."""
        return drive(self.aget(key, default, session=session))

    async def aget_entry(self, key: str, *, session: Any = None) -> Entry | None:
        """Read a value with its version, times and writer.

        :param key: the key.
        :return: the entry, or None where the key is absent or expired.
        :raises UnsupportedOperationError: the backend keeps no versions.
        """
        check_key(key)
        kept = await self._at(lambda scope: self._core.get_entry(scope, key, session))
        return None if kept is None else self._entry(kept)

    def _entry(self, kept: StoredEntry) -> Entry:
        value = self._core.decode(kept.text)
        return Entry(value, kept.version, kept.updated_at, kept.expires_at, kept.updated_by)

    def get_entry(self, key: str, *, session: Any = None) -> Entry | None:
        """Do what `aget_entry` does, from sync code."""
        return drive(self.aget_entry(key, session=session))

    async def aget_many(self, keys: Iterable[str], *, session: Any = None) -> dict[str, Any]:
        """Read several values at once, as of one moment where the backend can.

        :param keys: the keys.
        :return: the values by key, in the order asked for; absent and expired keys are left out.
        """
        if isinstance(keys, str):
            raise TypeError(f"keys must be several keys, not one string; write [{keys!r}]")
        wanted = list(dict.fromkeys(keys))
        for key in wanted:
            check_key(key)
        if not wanted:
            return {}
        texts = await self._at(lambda scope: self._core.get_many(scope, wanted, session))
        return {key: self._core.decode(texts[key]) for key in wanted if key in texts}

    def get_many(self, keys: Iterable[str], *, session: Any = None) -> dict[str, Any]:
        """Do what `aget_many` does, from sync code."""
        return drive(self.aget_many(keys, session=session))

    async def akeys(self, prefix: str = "", *, session: Any = None) -> list[str]:
        """List the keys, sorted by code point.

        :param prefix: what they begin with, taken literally.
        :raises UnsupportedOperationError: the backend cannot list keys.
        """
        if prefix != "":
            check_text(prefix, "prefix", 512)
        return await self._at(lambda scope: self._core.list_keys(scope, prefix, session))

    def keys(self, prefix: str = "", *, session: Any = None) -> list[str]:
        """Do what `akeys` does, from sync code."""
        return drive(self.akeys(prefix, session=session))

    async def awatch(self, key: str) -> AsyncIterator[Any]:
        """Follow a key: its value now, then every later one that the reader keeps up with.

        None stands for absent, expired and deleted. The last state is never missed. Leave the loop, or close the
        iterator, to stop. As with every async generator, a cancellation inside `anext` ends it: follow anew after a
        timeout, which gives the value as it is then.

        :param key: the key.
        :raises AssetNotFoundError: the asset is deleted while it is followed.
        :raises AssetInactiveError: the asset is deactivated.
        """
        check_key(key)
        texts, text = await self._at(lambda scope: self._follow(scope, key))
        try:
            yield None if text is None else self._core.decode(text)
            async for text in texts:
                yield None if text is None else self._core.decode(text)
        finally:
            await _close(texts)

    async def _follow(self, scope: Scope, key: str) -> tuple[AsyncIterator[str | None], str | None]:
        # The first read is part of it, so that an asset that was deleted meanwhile is found out here.
        texts = self._core.watch(scope, key)
        try:
            return texts, await anext(texts)
        except BaseException:
            await _close(texts)
            raise

    # Writes.

    async def adelete(self, key: str, *, session: Any = None) -> None:
        """Remove a value; nothing happens where the key is absent.

        :param key: the key.
        """
        check_key(key)
        if self._core.commits:
            await self._commit(lambda scope: (Delete(scope, key),), session)
        else:
            await self._at(lambda scope: self._core.delete(scope, key, session))

    def delete(self, key: str, *, session: Any = None) -> None:
        """Do what `adelete` does, from sync code."""
        drive(self.adelete(key, session=session))

    async def _commit(self, changes: Callable[[Scope], tuple[Change, ...]], session: Any) -> None:
        scope = self._resolved
        if scope is None:
            scope = await self._scope()
        try:
            await self._core.commit(self._stand(changes(scope)), session)
        except AssetNotFoundError as error:
            scope = await self._again(error)
            await self._core.commit(self._stand(changes(scope)), session)

    def _stand(self, changes: tuple[Change, ...]) -> Commit:
        return Commit(changes, (), self._lease, self._updated_by)

    async def _set(
        self, key: str, value: object, expires_at: datetime | None, if_version: int | None, session: Any
    ) -> None:
        check_key(key)
        if if_version is not None and (type(if_version) is not int or if_version < 0):
            kind = TypeError if type(if_version) is not int else ValueError
            raise kind(f"if_version must be a version, or 0 for a key that is absent, not {if_version!r}")
        text = self._core.encode(key, value)
        if not self._core.commits:
            if if_version is not None:
                raise self._lacks("if_version")
            await self._at(lambda scope: self._core.set(scope, key, text, expires_at, session))
            return
        # As `_commit` does it, without a coroutine and a closure in between: every write passes here.
        scope = self._resolved
        if scope is None:
            scope = await self._scope()
        try:
            await self._core.commit(self._stand((Put(scope, key, text, expires_at, if_version),)), session)
        except AssetNotFoundError as error:
            scope = await self._again(error)
            await self._core.commit(self._stand((Put(scope, key, text, expires_at, if_version),)), session)

    async def _set_many(self, values: Mapping[str, object], expires_at: datetime | None, session: Any) -> None:
        if not isinstance(values, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"mapping must map keys to values, not be a {type(values).__name__}")
        for key in values:
            check_key(key)
        self._core.check_allows("aset_many", of_task=self._of_task)
        texts = [(key, self._core.encode(key, values[key])) for key in sorted(values)]
        if not self._core.commits:
            raise self._lacks("aset_many")
        if texts:
            await self._commit(lambda scope: tuple(Put(scope, key, text, expires_at) for key, text in texts), session)

    def _lacks(self, what: str) -> UnsupportedOperationError:
        name = type(self._core.backend).__name__
        return UnsupportedOperationError(
            f"{what} needs a backend with Capability.COMMIT, which {name} does not declare"
        )

    async def _update(
        self, key: str, function: Update, default: object, expiry: Callable[[], datetime | None], session: Any
    ) -> JsonValue:
        expiry()  # refuses a bad retention before anything is called
        self._core.check_allows("aupdate", of_task=self._of_task)
        start = None if default is None else encode(default)
        while True:
            entry = await self.aget_entry(key, session=session)
            # The function may change what it is given, and may be called again: it gets a copy each time.
            before = entry.value if entry is not None else None if start is None else decode(start)
            with outside():
                after = function(before)
            if inspect.isawaitable(after):
                if inline():
                    if inspect.iscoroutine(after):
                        after.close()
                    raise TypeError("update takes a sync function; await aupdate for an async one")
                after = await after
            version = 0 if entry is None else entry.version
            try:
                await self._set(key, after, expiry(), version, session)
            except VersionConflictError:
                continue
            return after

    async def _advance(self, key: str, value: object, expiry: Callable[[], datetime | None], session: Any) -> bool:
        check_key(key)
        expiry()  # refuses a bad retention even where nothing will be written
        self._core.check_allows("aadvance", of_task=self._of_task)
        kind = _order(value, "value")
        self._core.encode(key, value)
        while True:
            entry = await self.aget_entry(key, session=session)
            if entry is not None:
                found = _order(entry.value, f"what key {key!r} holds")
                if found != kind:
                    raise TypeError(
                        f"key {key!r} holds a {found}, which does not compare with the {kind} {value!r}; "
                        "a watermark keeps one type"
                    )
                if not value > entry.value:  # type: ignore[operator]
                    return False
            try:
                await self._set(key, value, expiry(), 0 if entry is None else entry.version, session)
            except VersionConflictError:
                continue
            return True


def _order(value: object, what: str) -> str:
    if isinstance(value, str):
        return "string"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "number"
    raise TypeError(f"{what} is {value!r}; a watermark is a number, or a string compared by code points")


async def _close(texts: AsyncIterator[str | None]) -> None:
    close = getattr(texts, "aclose", None)
    if close is not None:
        await close()
