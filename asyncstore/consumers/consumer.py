"""What `store.events(asset, consumer=...)` gives."""

from __future__ import annotations

import weakref
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import Self, final

from ..blocking import drive
from ..clock import to_microseconds
from ..core import Core
from ..scopes import Asset, AssetScope, check_key, scope_of
from ..settings import ConsumerSettings
from .delivered import DeliveredEvent
from .reading import Reader
from .records import FailedEvent, Start

__all__ = ["Consumer"]

#: What an id can be in a database.
_LARGEST = 2**63 - 1


class _Loop:
    """Be one `async for`: what it iterates over, and the reader behind that once it has begun."""

    __slots__ = ("events", "reader")

    def __init__(self) -> None:
        self.events: weakref.ref[AsyncGenerator[DeliveredEvent]] | None = None
        self.reader: Reader | None = None

    @property
    def is_left(self) -> bool:
        """Tell whether nobody can go on with it, as after a `break`."""
        return self.events is None or self.events() is None


@final
class Consumer:
    """Read the events of an asset under a name, each until it is done; all who use the name divide them.

    ::

        async for event in store.events(orders, consumer="loader"):
            await load(event.payload)

    An event is done when the loop asks for the next one. What the loop leaves in hand when it ends, by `break`, an
    exception or a cancellation, is given back and delivered again; entered with `async with` it is given back at the
    end of the block, and an exception counts as a failure of the event in hand.

    :param core: the store's core.
    :param asset: an `Asset`, which reading registers where it is new, or an `AssetScope` of one that is.
    :param name: the consumer's name, 1 to 512 bytes of UTF-8.
    :param start: where it begins where there was none of that name; None for the first event in the log.
    :param settings: leases, limits and intervals.
    """

    def __init__(
        self, core: Core, asset: Asset | AssetScope, name: str, *, start: Start | None, settings: ConsumerSettings
    ) -> None:
        if not isinstance(asset, Asset | AssetScope):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"a consumer reads the events of an Asset or AssetScope, not of {asset!r}")
        check_key(name)
        if start is not None:
            _check_place("start", start, words=("beginning", "end"))
        self._core = core
        self._asset = asset
        self._name = name
        self._start: Start | None = start
        self._settings = settings
        self._loops: list[_Loop] = []
        self._entered = False
        self._deliveries = core.backend.deliveries  # refuses a backend without any

    def __repr__(self) -> str:
        return f"<Consumer {self._name!r} of {self._asset}>"

    # Reading.

    def __aiter__(self) -> AsyncGenerator[DeliveredEvent]:
        loop = _Loop()
        events = self._read(loop)
        loop.events = weakref.ref(events)
        return events

    async def _read(self, loop: _Loop) -> AsyncGenerator[DeliveredEvent]:
        for left in [each for each in self._loops if each.is_left]:
            await self._close(left)  # what it had in hand is for this one
        loop.reader = Reader(self._core, await self._resolve(), self._name, self._start, self._settings)
        self._loops.append(loop)
        try:
            while True:
                yield await loop.reader.next()
        finally:
            loop.events = None
            if not self._entered:  # else an exception is still to be counted
                await self._close(loop)

    async def _close(self, loop: _Loop) -> None:
        with suppress(ValueError):
            self._loops.remove(loop)
        if loop.reader is not None:
            await loop.reader.aclose()

    async def __aenter__(self) -> Self:
        self._entered = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for reader in [each.reader for each in self._loops]:
                if isinstance(error, Exception) and reader is not None and reader.hand is not None:
                    await reader.hand.fail(error)
        finally:
            for loop in list(self._loops):
                await self._close(loop)
            self._entered = False

    async def _resolve(self) -> AssetScope:
        if isinstance(self._asset, Asset):
            return await self._core.resolve_anew(self._asset)  # also after it was deleted
        return self._asset

    # For operators. Looking registers nothing.

    async def areplay(self, to: int | datetime) -> int:
        """Read again: every event from there on is delivered anew, those set aside included; nothing is skipped.

        What other readers have in hand of that is not theirs any more.

        :param to: the id of an event, or an aware datetime: the first event recorded then or later.
        :return: how many events come again.
        :raises ConsumerNotFoundError: nobody read under this name yet.
        """
        _check_place("to", to)
        return await self._core.call(lambda: self._deliveries.areplay(scope_of(self._asset), self._name, to))

    def replay(self, to: int | datetime) -> int:
        """Do what `areplay` does, from sync code."""
        return drive(self.areplay(to))

    async def alist_failed(self, *, after: int = 0, limit: int | None = None) -> list[FailedEvent]:
        """List the events that failed too often and were set aside, each with its last traceback, by their ids.

        :param after: only events with a larger id.
        :param limit: how many at most; None for all.
        :raises ConsumerNotFoundError: nobody read under this name yet.
        """
        for what, number in (("limit", 0 if limit is None else limit), ("after", after)):
            _check_id(what, number)
            if number < 0:
                raise ValueError(f"{what} must be 0 or more, not {number}")
        scope, name = scope_of(self._asset), self._name
        most = None if limit is None else min(limit, _LARGEST)
        return await self._core.call(lambda: self._deliveries.alist_failed(scope, name, after=after, limit=most))

    def list_failed(self, *, after: int = 0, limit: int | None = None) -> list[FailedEvent]:
        """Do what `alist_failed` does, from sync code."""
        return drive(self.alist_failed(after=after, limit=limit))

    async def aretry(self, events: Sequence[int] | None = None) -> int:
        """Have events that were set aside delivered again, as if they had never failed.

        :param events: their ids; None for all.
        :return: how many.
        :raises ConsumerNotFoundError: nobody read under this name yet.
        """
        ids = None if events is None else list(events)
        for each in ids or ():
            _check_id("the id of an event", each)
        if ids is not None:
            ids = [each for each in ids if 0 < each <= _LARGEST]  # there are no others
        return await self._core.call(lambda: self._deliveries.aretry(scope_of(self._asset), self._name, ids))

    def retry(self, events: Sequence[int] | None = None) -> int:
        """Do what `aretry` does, from sync code."""
        return drive(self.aretry(events))

    async def adelete(self) -> None:
        """Delete this consumer with all that is known of it; the events stay, and none is kept for its sake any more.

        :raises ConsumerNotFoundError: nobody read under this name yet.
        """
        await self._core.call(lambda: self._deliveries.adelete(scope_of(self._asset), self._name))

    def delete(self) -> None:
        """Do what `adelete` does, from sync code."""
        drive(self.adelete())


def _check_id(what: str, number: object) -> None:
    if type(number) is not int:
        raise TypeError(f"{what} must be an int, not {number!r}")


def _check_place(what: str, place: object, words: Sequence[str] = ()) -> None:
    if isinstance(place, datetime):
        to_microseconds(place)  # refuses one without a time zone
    elif type(place) is int:
        if place < 0:
            raise ValueError(f"{what} is the id of an event, which is never negative, not {place}")
    elif place not in words or not isinstance(place, str):
        kinds = ", ".join([*map(repr, words), "the id of an event", "an aware datetime"])
        raise TypeError(f"{what} must be one of {kinds}; not {place!r}")
