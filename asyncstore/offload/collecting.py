"""Removing what rows referred to and refer to no more."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from asyncio import get_running_loop
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ..abc import Capability
from ..blocking import inline
from ..changes import Change, Clear, Delete, Put
from ..errors import StoreError
from ..scopes import AssetScope, Scope, TaskScope
from .abc import Keeper, Leftover
from .stored import IMMUTABLE, Reference, is_reference, path_of

if TYPE_CHECKING:
    from .layer import OffloadingCore

__all__ = ["Collector"]

_log = logging.getLogger(__name__)

_PAGE = 500
#: Seconds in which replaced objects are collected, to be removed together.
_DELAY = 0.1
#: Keys that are remembered at most.
_MOST_SEEN = 10_000


class Collector:
    """Remove the objects of references that no row holds any more.

    A backend with `Capability.LEFTOVERS` remembers such references in the transaction that overwrites or deletes the
    row. With another one they are read before the change; what is missed so is found as abandoned, later.

    :param core: the store's core.
    :param keeper: the worker-side backend.
    """

    def __init__(self, core: OffloadingCore, keeper: Keeper) -> None:
        self._core = core
        self._keeper = keeper
        self._remembers = core.can(Capability.LEFTOVERS)
        self._seen: dict[tuple[Scope, str], None] = {}
        self._due = False
        self._task: asyncio.Task[None] | None = None

    def saw(self, scope: Scope, key: str) -> bool:
        """Take note that a key has a reference; tells whether that was known."""
        place = (scope, key)
        if place in self._seen:
            return True
        self._seen[place] = None
        while len(self._seen) > _MOST_SEEN:
            with contextlib.suppress(KeyError, StopIteration, RuntimeError):  # several threads may be at it
                del self._seen[next(iter(self._seen))]
        return False

    # Around a commit.

    async def before(self, changes: Sequence[Change], session: Any) -> list[str]:
        """Give the references that changes are going to replace, where the backend does not remember them."""
        if self._remembers or not self._keeper.immutable or session is not None:
            return []
        found: list[str] = []
        for change in changes:
            for key in await self._keys(change):
                text = await self._core.read_row(change.scope, key)
                if text is not None and is_reference(text):
                    found.append(text)
        return found

    async def _keys(self, change: Change) -> list[str]:
        if isinstance(change, Put | Delete):
            return [change.key]
        if change.all_map_indices or not self._core.can(Capability.LISTING):
            return []
        return await self._core.list_keys(change.scope, "")

    async def after(self, changes: Sequence[Change], session: Any) -> None:
        """Remove what a commit let go of: at once what was deleted, soon what was overwritten."""
        overwritten = [each for each in changes if isinstance(each, Put) and self.saw(each.scope, each.key)]
        if not self._remembers or not changes:
            return
        # A key that is new to this process may have had a value all the same, and a session may be committed later.
        self._due = True
        if session is not None:
            return
        if any(isinstance(each, Delete | Clear) for each in changes):
            await self.try_to_drain()
        elif overwritten:
            self._poke()

    def _poke(self) -> None:
        if inline():
            return  # at the store's end, or with the next deletion
        task, loop = self._task, get_running_loop()
        if task is None or task.done() or task.get_loop() is not loop:
            self._task = loop.create_task(self._soon(), name="asyncstore replaced objects")

    async def _soon(self) -> None:
        while self._due:
            await asyncio.sleep(_DELAY)
            await self.try_to_drain()

    async def aclose(self) -> None:
        """Remove what is due."""
        task, self._task = self._task, None
        if task is not None and not inline() and task.get_loop() is get_running_loop():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self._due:
            await self.try_to_drain()

    # Leftovers.

    async def try_to_drain(self) -> None:
        """Do what `drain` does, and log what cannot be done now: it is remembered."""
        try:
            await self.drain()
        except StoreError as error:
            _log.warning("objects that no row refers to any more were not removed yet: %s", error)

    async def drain(self, tell: Callable[[Sequence[str]], None] | None = None, *, dry_run: bool = False) -> int:
        """Remove everything that the backend remembers.

        :param tell: is told the paths, page by page.
        :param dry_run: only tell.
        :return: how many there are.
        """
        if not self._remembers:
            return 0
        if dry_run:
            return await self._go_through(tell, dry_run=True)
        self._due = False
        try:
            return await self._go_through(tell, dry_run=False)
        except BaseException as error:
            self._due = not isinstance(error, StoreError)  # what was cancelled is done at the store's end
            raise

    async def _go_through(self, tell: Callable[[Sequence[str]], None] | None, *, dry_run: bool) -> int:
        after = count = 0
        while page := await self._list(after):
            after = page[-1].id
            mine = [each for each in page if each.text.startswith(IMMUTABLE) == self._keeper.immutable]
            if mine and not dry_run:
                await self._remove(mine)
                await self._forget([each.id for each in mine])
            if mine and tell is not None:
                tell([path_of(each.text) for each in mine])
            count += len(mine)
            if len(page) < _PAGE:
                break
        return count

    async def _list(self, after: int) -> list[Leftover]:
        backend = self._core.backend
        return await self._core.call(lambda: backend.leftovers.alist(after=after, limit=_PAGE))

    async def _forget(self, ids: Sequence[int]) -> None:
        backend = self._core.backend
        await self._core.call(lambda: backend.leftovers.aforget(ids))

    async def _remove(self, leftovers: Sequence[Leftover]) -> None:
        if self._keeper.immutable:
            await self._core.work(lambda: self._keeper.adiscard([each.text for each in leftovers]))
            return
        for each in leftovers:
            place = Reference.parse(each.text).place
            if place is None:
                continue
            scope, key = _scope_of(place), place[2]
            if not await self._core.has_row(scope, key):
                await self._core.work(partial(self._keeper.aremove, scope, key))


def _scope_of(place: tuple[str, str, str]) -> Scope:
    kind, owner, _ = place
    return TaskScope.from_ti_id(owner) if kind == "task" else AssetScope(name=owner)
