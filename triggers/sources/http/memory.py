"""What was told of an API: of each item that it shows, or up to which watermark."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from asyncstore import AssetStoreAccessors, JsonValue

from ...events import TriggerEvent
from ..seen import Seen, digest
from .reading import Item

__all__ = ["Memory", "Shown", "Watermarked"]

logger = logging.getLogger("triggers")

#: Marks that one key of the state holds.
_CHUNK = 100


class Memory(ABC):
    """Decide which items are events, and remember those that were.

    :param state: the state of the watched asset.
    :param prefix: of its keys.
    :param shown: the API, for people.
    """

    def __init__(self, state: AssetStoreAccessors, prefix: str, shown: str) -> None:
        self._state = state
        self._prefix = prefix
        self._shown = shown
        self._told: set[str] = set()

    @property
    def watermark(self) -> JsonValue:
        """Return the greatest value that was recorded in whole; None where there is none."""
        return None

    async def recall(self) -> None:  # noqa: B027 - optional
        """Read what is remembered; called once, first."""

    @abstractmethod
    def begin(self) -> None:
        """Begin to go through the pages from the first one."""

    @abstractmethod
    async def events(self, items: Sequence[Item]) -> list[tuple[Item, TriggerEvent]]:
        """Give the events of some items, to be yielded in this order, before any more are asked for.

        :param items: of one page, some hundreds.
        """

    @abstractmethod
    async def pass_over(self, items: Sequence[Item]) -> None:
        """Remember items without an event for any.

        :param items: as above.
        """

    @property
    def wants_another(self) -> bool:
        """Tell whether the pages are to be gone through once more, because they may have shifted meanwhile."""
        return False

    @abstractmethod
    async def finish(self, also: dict[str, JsonValue], *, shifting: bool = False) -> None:
        """Take note that all pages were gone through, and every event of them is committed.

        :param also: what is written with it, after all else.
        :param shifting: there were several pages, and an item may have moved from one to one that was read already.
        """

    def _tell_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            logger.warning("%s: %s", self._shown, text)


class Shown(Memory):
    """Remember each item that the API shows: how often it was told, and a digest of it.

    :param changes: an item that changed is an event, too.
    """

    def __init__(self, state: AssetStoreAccessors, prefix: str, shown: str, *, changes: bool) -> None:
        super().__init__(state, prefix, shown)
        self._changes = changes
        # Pages shift while they are read: what was missed once may be there all the same.
        self._seen = Seen(state, f"{prefix}/item", absences=2)

    def begin(self) -> None:
        """Begin to go through the pages."""
        self._seen.begin()

    async def events(self, items: Sequence[Item]) -> list[tuple[Item, TriggerEvent]]:
        """Give an event for each item that is not remembered, or not like this."""
        found: list[tuple[Item, TriggerEvent]] = []
        for each, count in await self._unknown(items):
            # The count tells one return to an earlier content from the next.
            mark = f"{each.name} {count} {each.content}" if self._changes else each.name
            checkpoint = {self._seen.key(each.name): [count, each.content[:16]]}
            found.append((each, TriggerEvent(each.value, key=_key(self._prefix, mark), checkpoint=checkpoint)))
        return found

    async def _unknown(self, items: Sequence[Item]) -> list[tuple[Item, int]]:
        known = await self._seen.page(list({each.name: None for each in items}))
        found: list[tuple[Item, int]] = []
        for each in items:
            before = known.get(each.name)
            if before is not None and (not self._changes or before[1] == each.content[:16]):
                continue
            count = 1 if before is None else before[0] + 1
            known[each.name] = [count, each.content[:16]]
            found.append((each, count))
            if before is None:
                self._seen.added()
        return found

    async def pass_over(self, items: Sequence[Item]) -> None:
        """Remember items as told."""
        unknown = await self._unknown(items)
        await self._state.aset_many({self._seen.key(each.name): [count, each.content[:16]] for each, count in unknown})

    async def finish(self, also: dict[str, JsonValue], *, shifting: bool = False) -> None:
        """Forget what the API does not show any more."""
        await self._seen.finish()
        await self._state.aset_many(also)


class Watermarked(Memory):
    """Remember the greatest watermark, and which items have just that, for another with the same may follow.

    The watermark moves when every item of all pages is recorded: only then is nothing smaller outstanding. Where a
    crash comes before, the items are told again, and their keys say that they were. Where pages may shift while they
    are read, it follows one round behind: an item that left one page for another is found by the next round.

    :param changes: an item with a greater watermark is an event although its id was told.
    :param ascending: items come in the order of their watermarks, so that it can move with each event.
    """

    def __init__(self, state: AssetStoreAccessors, prefix: str, shown: str, *, changes: bool, ascending: bool) -> None:
        super().__init__(state, prefix, shown)
        self._changes = changes
        self._ascending = ascending
        self._value: Any = None  # and the marks of those that have it: what is stored
        self._marks: list[str] = []
        self._chunks = 0
        self._top: Any = None  # the same: what will be
        self._at_top: dict[str, None] = {}
        self._newest: Any = None
        self._old: set[str] = set()
        self._went_back = False
        self._pending: tuple[Any, list[str]] | None = None  # what the next round confirms
        self._recent = array("Q")  # items of the last round, in order, and of this one
        self._fresh = array("Q")

    @property
    def watermark(self) -> JsonValue:
        """Return the watermark."""
        value: JsonValue = self._value
        return value

    async def recall(self) -> None:
        """Read the watermark and the marks of those that have it."""
        self._value = await self._state.aget(f"{self._prefix}/watermark")
        keys = await self._state.akeys(f"{self._prefix}/at/")
        self._chunks = len(keys)
        kept = await self._state.aget_many(keys)
        self._marks = [mark for value, marks in kept.values() if value == self._value for mark in marks]

    def begin(self) -> None:
        """Begin to go through the pages, from what is stored."""
        if self._ascending and self._top is not None:
            self._value, self._marks = self._top, list(self._at_top)
        self._top, self._at_top = self._value, dict.fromkeys(self._marks)
        self._old = set(self._marks)
        self._newest = None
        self._fresh = array("Q")

    async def events(self, items: Sequence[Item]) -> list[tuple[Item, TriggerEvent]]:
        """Give an event for each item that is not below the watermark, and not among those that were told."""
        found: list[tuple[Item, TriggerEvent]] = []
        for each in items:
            mark = digest(f"{each.name} {each.at!r} {each.content}".encode()) if self._changes else each.name
            if self._is_known(each, mark[:16]):
                continue
            moved = self._note(each, mark[:16])
            if not self._ascending:
                number = int(mark[:16], 16)
                self._fresh.append(number)
                if self._is_recent(number):
                    continue
            checkpoint = self._changed(moved) if self._ascending else None
            found.append((each, TriggerEvent(each.value, key=_key(self._prefix, mark), checkpoint=checkpoint)))
        return found

    async def pass_over(self, items: Sequence[Item]) -> None:
        """Note watermarks; they are stored at the end."""
        for each in items:
            mark = digest(f"{each.name} {each.at!r} {each.content}".encode()) if self._changes else each.name
            if not self._is_known(each, mark[:16]):
                self._note(each, mark[:16])

    def _is_recent(self, number: int) -> bool:
        at = bisect_left(self._recent, number)
        return at < len(self._recent) and self._recent[at] == number

    def _is_known(self, each: Item, mark: str) -> bool:
        if not self._compares(each):
            self._tell_once("some items have no watermark that compares with the others; each is told once")
            return mark in self._at_top
        if self._newest is None or each.at > self._newest:
            self._newest = each.at
        if self._value is not None and each.at < self._value:
            return True
        return mark in self._old or (each.at == self._top and mark in self._at_top)

    def _compares(self, each: Item) -> bool:
        other = self._value if self._value is not None else self._top if self._top is not None else self._newest
        return each.at is not None and (other is None or isinstance(each.at, str) == isinstance(other, str))

    def _note(self, each: Item, mark: str) -> int:
        """Take note of an item; gives from which chunk on the marks have changed."""
        if self._compares(each) and (self._top is None or each.at > self._top):
            self._top, self._at_top = each.at, {mark: None}
            return 0
        if not self._compares(each) or each.at == self._top:
            self._at_top[mark] = None
        elif self._ascending:
            self._tell_once(
                "items do not come in the order of their watermarks, as `ascending` says; a crash may lose some"
            )
        return (len(self._at_top) - 1) // _CHUNK

    def _changed(self, first: int) -> dict[str, Any]:
        if self._top is None:
            return {}
        marks = list(self._at_top)
        chunks = {
            f"{self._prefix}/at/{number:08}": [self._top, marks[number * _CHUNK : (number + 1) * _CHUNK]]
            for number in range(max(0, first), -(-len(marks) // _CHUNK))
        }
        self._chunks = max(self._chunks, -(-len(marks) // _CHUNK))
        return {f"{self._prefix}/watermark": self._top, **chunks}

    @property
    def wants_another(self) -> bool:
        """Tell whether the next round has something to confirm."""
        return self._pending is not None and self._pending[0] != self._value

    async def finish(self, also: dict[str, JsonValue], *, shifting: bool = False) -> None:
        """Store the watermark and its marks, in one commit."""
        back = self._newest is not None and self._value is not None and self._newest < self._value
        if back and not self._went_back:
            logger.warning(
                "%s: the source went back: its newest watermark is %s, and was %s; nothing is told below that",
                self._shown,
                _short(self._newest),
                _short(self._value),
            )
        self._went_back = back
        moved = self._top != self._value
        if shifting and moved and not self._ascending:
            confirmed, self._pending = self._pending, (self._top, list(self._at_top))
            self._recent = array("Q", sorted(self._fresh))
            self._top, self._at_top = self._value, dict.fromkeys(self._marks)
            if confirmed is not None:
                self._top, self._at_top = confirmed[0], dict.fromkeys(confirmed[1])
            moved = self._top != self._value
        else:
            self._pending, self._recent = None, array("Q")
        if moved or len(self._at_top) != len(self._marks):
            also = {**self._changed(0 if moved else (len(self._marks) - 1) // _CHUNK), **also}
        if also:
            await self._state.aset_many(also)
        self._value, self._marks = self._top, list(self._at_top)
        used = -(-len(self._marks) // _CHUNK)
        for number in range(used, self._chunks):
            await self._state.adelete(f"{self._prefix}/at/{number:08}")
        self._chunks = used


def _key(prefix: str, mark: str) -> str:
    return f"{prefix}:{digest(mark.encode())}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}..."
