"""What becomes of an item of a source that cannot be handled, however often it is tried."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal, cast

from asyncstore import AssetStoreAccessor, JsonValue, StoreError, ValueTooLargeError

from .cancelling import nobody_cancels

__all__ = ["Items", "Poison", "SetAside", "forget_set_aside", "list_set_aside"]

logger = logging.getLogger("triggers")

#: Of the keys of the asset's state that hold failures; a digest of the item's key follows, which may be long.
_PREFIX = "asyncstore/failed/"
#: Characters of a traceback that are kept, its end: what went wrong stands there.
_KEPT = 4_000


@dataclass(frozen=True, slots=True)
class Poison:
    """Say what becomes of an item that fails again and again: `AssetWatcher(..., poison=Poison(attempts=3))`.

    :param attempts: failures of one item after which the watcher goes on without it.
    :param then: `"set aside"` keeps the item with its traceback until somebody forgets it; `"skip"` only logs it.
    :raises ValueError: an argument is not one of these.
    """

    attempts: int = 5
    then: Literal["set aside", "skip"] = "set aside"

    def __post_init__(self) -> None:
        if type(self.attempts) is not int or self.attempts < 1:
            raise ValueError(f"attempts is a positive integer, not {self.attempts!r}")
        if self.then not in {"set aside", "skip"}:
            raise ValueError(f"then is 'set aside' or 'skip', not {self.then!r}")


@dataclass(frozen=True, slots=True)
class SetAside:
    """Hold an item that failed.

    :ivar watcher: the watcher's name.
    :ivar item: what the watcher calls it.
    :ivar attempts: how often it failed.
    :ivar error: the traceback of the latest failure.
    :ivar is_aside: the watcher has gone on without it; else it is tried again.
    """

    watcher: str
    item: str
    attempts: int
    error: str
    is_aside: bool


class Items:
    """Count the failures of one watcher's items, where they outlive its process.

    :param state: the watched asset's, under the watcher's claim.
    :param watcher: the watcher's name.
    :param poison: what becomes of an item that fails again and again.
    """

    def __init__(self, state: AssetStoreAccessor, watcher: str, poison: Poison) -> None:
        self._state = state
        self._watcher = watcher
        self._poison = poison
        self._failed: set[str] | None = None
        #: What this attempt has skipped; it may come again, for its watermark was not moved past it.
        self._skipped: set[str] = set()

    @asynccontextmanager
    async def handling(self, item: str) -> AsyncGenerator[None]:
        """Count a failure of the block against an item; once it has failed too often, swallow the error."""
        key = _key(self._watcher, item)
        try:
            yield
        except (Exception, asyncio.CancelledError) as error:
            if not _is_items_fault(error) or not await self._count(key, item, error):
                raise
        else:
            await self._mended(key)

    async def _count(self, key: str, item: str, error: BaseException) -> bool:
        if key in self._skipped:
            return True
        failed = await self._known()
        failed.add(key)
        try:
            kept, told = await self._keep(key, item, "".join(traceback.format_exception(error))[-_KEPT:])
        except ValueTooLargeError:
            kept, told = await self._keep(key, item, f"{type(error).__name__}; the log has more than can be stored")
        if not kept["aside"]:
            return False
        if self._poison.then == "skip":
            await self._state.adelete(key)
            failed.discard(key)
            self._skipped.add(key)
        if not told:
            logger.error(
                "watcher %r goes on without %r: it failed %d times",
                self._watcher,
                item,
                kept["attempts"],
                exc_info=error,
            )
        return True

    async def _keep(self, key: str, item: str, error: str) -> tuple[dict[str, Any], bool]:
        # What is no Unicode, as in the name of a file, cannot be stored as it is; it names the same item still.
        named, text = (each.encode(errors="backslashreplace").decode() for each in (item, error))
        told = False

        def count(before: JsonValue) -> JsonValue:
            nonlocal told
            known = before if isinstance(before, dict) else {}
            attempts, told = known.get("attempts", 0), bool(known.get("aside"))
            attempts = attempts + 1 if isinstance(attempts, int) else 1
            aside = attempts >= self._poison.attempts
            return {"watcher": self._watcher, "item": named, "attempts": attempts, "error": text, "aside": aside}

        return cast("dict[str, Any]", await self._state.aupdate(key, count)), told

    async def _mended(self, key: str) -> None:
        failed = await self._known()
        if key in failed:
            await self._state.adelete(key)
            failed.discard(key)

    async def _known(self) -> set[str]:
        if self._failed is None:  # one look for an attempt of the watcher, not one for each item
            self._failed = set(await self._state.akeys(_PREFIX))
        return self._failed


def _is_items_fault(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        parts = cast("BaseExceptionGroup[BaseException]", error).exceptions
        return all(_is_items_fault(each) for each in parts)
    if isinstance(error, asyncio.CancelledError):
        return nobody_cancels()
    # An error of the store is the item's fault only where it refuses what the item says.
    return not isinstance(error, StoreError) or isinstance(error, ValueError)


def _key(watcher: str, item: str) -> str:
    return _PREFIX + sha256(f"{watcher}\0{item}".encode(errors="backslashreplace")).hexdigest()[:32]


async def forget_set_aside(state: AssetStoreAccessor, watcher: str, item: str) -> None:
    """Forget that a watcher failed at an item.

    :param state: the asset's state.
    :param watcher: the watcher's name.
    :param item: what it calls the item.
    """
    await state.adelete(_key(watcher, item))


async def list_set_aside(state: AssetStoreAccessor) -> list[SetAside]:
    """List the items of an asset's watchers that failed.

    :param state: the asset's state.
    """
    keys = await state.akeys(_PREFIX)
    found = cast("dict[str, dict[str, Any]]", await state.aget_many(keys)) if keys else {}
    return [
        SetAside(each["watcher"], each["item"], each["attempts"], each["error"], each["aside"])
        for each in found.values()
    ]
