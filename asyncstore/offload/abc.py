"""What keeps values for the accessors, whichever way; and what a store remembers of what it let go of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from ..scopes import JOB_PREFIX, Scope, TaskScope
from ..values import JsonValue
from .hooks import Kind

__all__ = ["Keeper", "Kept", "Leftover", "Leftovers", "Place"]


@dataclass(frozen=True, slots=True)
class Place:
    """Say what a value belongs to.

    :param kind: state of a task, or of an asset.
    :param owner: the `ti_id`, or the asset's registered name.
    :param key: the key.
    """

    kind: Kind
    owner: str
    key: str


@dataclass(frozen=True, slots=True)
class Kept:
    """Tell of an immutable object that is there.

    :param at: the reference.
    :param digest: its name.
    :param place: what it belongs to; None where only the object itself can tell.
    :param written_at: when it was written, by the clock of the storage.
    """

    at: str
    digest: str
    place: Place | None
    written_at: datetime


class Keeper(ABC):
    """Keep values, and give them back.

    Every coroutine may be called from any event loop, and at any time: several at once, too.
    """

    #: The name of the class, for messages.
    name: str
    #: It keeps each write in an object of its own, which is never overwritten.
    immutable: bool
    #: Of which kinds of state it keeps values.
    kinds: frozenset[Kind]
    #: Bytes from which it keeps a value; smaller ones stay in the store.
    threshold: int = 0

    def keeps(self, scope: Scope, key: str | None = None) -> bool:
        """Tell whether it keeps the value of a key, or values of a scope where none is given.

        Never what is known of a job: two attempts at once are told apart by the version of that row, which a write in
        place would not heed; and a retry must be able to read it wherever the attempt before was killed.
        """
        if not isinstance(scope, TaskScope):
            return "asset" in self.kinds
        return "task" in self.kinds and (key is None or not key.startswith(JOB_PREFIX))

    @abstractmethod
    async def akeep(self, place: Place, value: object) -> str:
        """Keep a value.

        :return: the text for the store: a reference, or the value's JSON where it stays in the store.
        :raises TypeError: JSON cannot hold the value, and so for `ValueError`.
        :raises WorkerBackendError: it could not be kept.
        """

    @abstractmethod
    async def aload(self, place: Place, text: str) -> JsonValue:
        """Give back a value.

        :param text: what `akeep` gave, now or at any time before.
        :raises BrokenReferenceError: it is gone, or is not what the text says.
        :raises WorkerBackendError: it could not be read.
        """

    @abstractmethod
    async def adiscard(self, texts: Sequence[str]) -> None:
        """Remove what no row refers to any more; what is gone already is no error.

        :param texts: what `akeep` gave.
        :raises WorkerBackendError: some of it could not be removed.
        """

    @abstractmethod
    async def aremove(self, scope: Scope, key: str | None, *, all_map_indices: bool = False) -> None:
        """Remove what is kept in place of a key or of a whole scope, after its row has gone; nothing where immutable.

        :param key: the key; None for all.
        """

    # What is immutable is found by listing, too.

    #: What tells the store from others; it is left where the first object is kept.
    identity: str | None = None

    async def aowner(self) -> str | None:
        """Give the identity of the store that keeps its values there; None where none left one."""
        return None

    async def pages(self) -> AsyncIterator[list[Kept]]:
        """List every immutable object, page by page, in no order."""
        empty: tuple[list[Kept], ...] = ()
        for page in empty:
            yield page

    async def aplace(self, kept: Kept) -> Place | None:
        """Ask an object what it belongs to; None where it does not say, or is not where it belongs."""
        return kept.place


@dataclass(frozen=True, slots=True)
class Leftover:
    """Hold a reference that no row holds any more.

    :param id: to forget it by.
    :param text: the reference.
    """

    id: int
    text: str


class Leftovers(ABC):
    """Remember the references that rows held, until what they refer to is removed.

    A reference is remembered in the transaction that overwrites or deletes its row, whoever makes it.
    """

    @abstractmethod
    async def alist(self, *, after: int = 0, limit: int) -> list[Leftover]:
        """List them, the oldest first.

        :param after: only those with a larger id.
        :param limit: how many at most.
        """

    @abstractmethod
    async def aforget(self, ids: Sequence[int]) -> None:
        """Forget some."""

    @abstractmethod
    async def aidentity(self) -> str:
        """Give what tells this store from every other one."""
