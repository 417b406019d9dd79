"""What a command works on: the state of an asset, or of a task instance."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, final

from ..abc import Capability
from ..accessors import AssetStoreAccessor, TaskStoreAccessor
from ..browsing.records import EntryRecord
from ..changes import Change, Commit, CommitResult, Delete, Put
from ..core import Core
from ..retention import expiry
from ..scopes import AssetScope, Scope, TaskScope, check_key
from ..store import Store
from .finding import find_asset
from .running import see_through, writer

__all__ = ["AssetPlace", "Place", "TaskPlace", "count", "pages", "present", "remove", "write"]

State = AssetStoreAccessor | TaskStoreAccessor
#: Entries of a page.
PAGE = 500


class Place(ABC):
    """Say whose state it is; `str()` of it is for messages."""

    @abstractmethod
    async def scope(self, store: Store) -> TaskScope | AssetScope:
        """Find it.

        :raises Misuse: there is no such asset.
        """

    @abstractmethod
    def state(self, store: Store, scope: Any) -> State:
        """Give its state; written to by this program."""


@final
@dataclass(frozen=True)
class AssetPlace(Place):
    """Name an asset by its name or URI."""

    asset: str

    def __str__(self) -> str:
        return f"asset {self.asset!r}"

    async def scope(self, store: Store) -> AssetScope:
        """Find the asset."""
        return (await find_asset(store, self.asset)).scope

    def state(self, store: Store, scope: AssetScope) -> AssetStoreAccessor:
        """Give its state."""
        return AssetStoreAccessor(store.core, scope, canonical=True, updated_by=writer())


@final
@dataclass(frozen=True)
class TaskPlace(Place):
    """Name a task instance."""

    task: TaskScope

    def __str__(self) -> str:
        return str(self.task)

    async def scope(self, store: Store) -> TaskScope:
        """Give the task instance; it need not have state."""
        return self.task

    def state(self, store: Store, scope: TaskScope) -> TaskStoreAccessor:
        """Give its state."""
        return TaskStoreAccessor(store.core, scope, updated_by=writer())


async def pages(
    store: Store, scope: Scope, prefix: str, *, values: bool, limit: int | None
) -> AsyncIterator[list[EntryRecord]]:
    """List entries page by page.

    :param limit: how many at most; None for all.
    """
    after = ""
    while limit is None or limit > 0:
        size = PAGE if limit is None else min(limit, PAGE)
        page = await store.browser.alist_entries(scope, prefix, after=after, limit=size, values=values)
        if page:
            yield page
        if len(page) < size:
            return
        after = page[-1].key
        limit = None if limit is None else limit - size


async def write(
    store: Store, state: State, scope: Scope, key: str, value: Any, *, retention: Any, if_version: int | None
) -> int | None:
    """Write a key; gives the version, None where the backend keeps none."""
    core = store.core
    if not core.commits:
        if isinstance(state, TaskStoreAccessor):
            await state.aset(key, value, retention=retention, if_version=if_version)
        else:
            await state.aset(key, value, if_version=if_version)
        return None
    check_key(key)
    text = core.encode(key, value)
    expires_at = expiry(retention, core.default_retention, core.clock) if isinstance(scope, TaskScope) else None
    put = Put(scope, key, text, expires_at, if_version)
    return (await _commit(core, "the value was written", put)).versions[0]


async def present(store: Store, state: State, scope: Scope, keys: Sequence[str]) -> list[str]:
    """Give those of some keys that are there."""
    found: list[str] = []
    for key in dict.fromkeys(keys):
        check_key(key)
        if store.core.can(Capability.BROWSING):
            # The first of the keys that begin with this one is itself, if it is there.
            first = await store.browser.alist_entries(scope, key, limit=1)
            there = [each.key for each in first] == [key]
        else:
            there = await state.aget(key) is not None
        found += [key] if there else []
    return found


async def remove(store: Store, state: State, scope: Scope, keys: Sequence[str]) -> None:
    """Delete keys, all or none where the backend can."""
    core = store.core
    if core.commits:
        await _commit(core, "the keys were deleted", *(Delete(scope, key) for key in keys))
        return
    for key in keys:
        await see_through(state.adelete(key), f"{key!r} was deleted")


async def _commit(core: Core, what: str, *changes: Change) -> CommitResult:
    async def work() -> CommitResult:
        return await core.commit(Commit(changes, updated_by=writer()))

    return await see_through(work(), what)


async def count(store: Store, scope: Scope, *, all_map_indices: bool) -> int | None:
    """Count the keys that a `clear` takes along; None where the backend cannot tell."""
    core = store.core
    if not core.can(Capability.BROWSING):
        if all_map_indices or not core.can(Capability.LISTING):
            return None
        return len(await core.list_keys(scope, ""))
    if isinstance(scope, AssetScope):
        await store.browser.alist_entries(scope, limit=1)  # refuses a deactivated one
        return (await store.browser.adescribe_asset(scope)).keys
    total, after = 0, None
    parts = {"dag_id": scope.dag_id, "run_id": scope.run_id, "task_id": scope.task_id}
    while page := await store.browser.alist_tasks(**parts, after=after, limit=PAGE):
        total += sum(each.keys for each in page if all_map_indices or each.scope == scope)
        after = page[-1].scope
    return total
