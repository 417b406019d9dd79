"""What is there, for people and programs that look around: `store.browser`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar, final

from ..abc import BaseStoreBackend
from ..blocking import drive
from ..core import Core
from ..errors import StoreCorruptError
from ..records import AssetRecord
from ..scopes import Asset, AssetScope, TaskScope, scope_of
from .abc import Browsing
from .records import AssetSummary, EntryRecord, TaskRecord

__all__ = ["Browser"]

T = TypeVar("T")


@final
class Browser:
    """List what is in a store, page by page; registers nothing, changes nothing, and loads no value from elsewhere.

    :param core: the store's core.
    """

    def __init__(self, core: Core) -> None:
        self._core = core

    async def _ask(self, question: Callable[[Browsing], Awaitable[T]]) -> T:
        backend: BaseStoreBackend = self._core.backend
        return await self._core.call(lambda: question(backend.browsing))

    async def alist_assets(self, *, after: str = "", limit: int | None = None) -> list[AssetRecord]:
        """List the registered assets, deactivated ones too, by name in the order of code points.

        :param after: only names behind this one, to go on with the next page.
        :param limit: how many at most; None for all.
        :raises UnsupportedOperationError: the backend cannot; here as in the others.
        """
        return await self._ask(lambda browsing: browsing.alist_assets(after=after, limit=limit))

    def list_assets(self, *, after: str = "", limit: int | None = None) -> list[AssetRecord]:
        """Do what `alist_assets` does, from sync code."""
        return drive(self.alist_assets(after=after, limit=limit))

    async def adescribe_asset(self, asset: Asset | AssetScope) -> AssetSummary:
        """Read a registration, and count what hangs on it; of a deactivated asset, too.

        :param asset: a registered asset.
        :raises AssetNotFoundError: it is not registered.
        """
        return await self._ask(lambda browsing: browsing.adescribe_asset(scope_of(asset)))

    def describe_asset(self, asset: Asset | AssetScope) -> AssetSummary:
        """Do what `adescribe_asset` does, from sync code."""
        return drive(self.adescribe_asset(asset))

    async def alist_entries(
        self,
        scope: TaskScope | Asset | AssetScope,
        prefix: str = "",
        *,
        after: str = "",
        limit: int | None = None,
        values: bool = False,
    ) -> list[EntryRecord]:
        """List keys with their versions, times and sizes, in the order of their code points.

        :param scope: a task instance, or a registered asset.
        :param prefix: what the keys begin with, taken literally.
        :param after: only keys behind this one, to go on with the next page.
        :param limit: how many at most; None for all.
        :param values: give the JSON texts, too; not of what a worker-side backend keeps.
        :raises AssetNotFoundError: the asset is not registered.
        :raises AssetInactiveError: the asset is deactivated.
        """
        where = scope if isinstance(scope, TaskScope) else scope_of(scope)
        entries = await self._ask(
            lambda browsing: browsing.alist_entries(where, prefix, after=after, limit=limit, values=values)
        )
        return [each if each.reference is None else _weighed(each, each.reference) for each in entries]

    def list_entries(
        self,
        scope: TaskScope | Asset | AssetScope,
        prefix: str = "",
        *,
        after: str = "",
        limit: int | None = None,
        values: bool = False,
    ) -> list[EntryRecord]:
        """Do what `alist_entries` does, from sync code."""
        return drive(self.alist_entries(scope, prefix, after=after, limit=limit, values=values))

    async def alist_tasks(
        self,
        *,
        dag_id: str | None = None,
        run_id: str | None = None,
        task_id: str | None = None,
        after: TaskScope | None = None,
        limit: int | None = None,
    ) -> list[TaskRecord]:
        """List the task instances that have state, by run, task, dag and map index.

        :param dag_id: only of this workflow.
        :param run_id: only of this run; with it the list is read from an index.
        :param task_id: only of this task.
        :param after: only those behind this one, to go on with the next page.
        :param limit: how many at most; None for all.
        """
        return await self._ask(
            lambda browsing: browsing.alist_tasks(
                dag_id=dag_id, run_id=run_id, task_id=task_id, after=after, limit=limit
            )
        )

    def list_tasks(
        self,
        *,
        dag_id: str | None = None,
        run_id: str | None = None,
        task_id: str | None = None,
        after: TaskScope | None = None,
        limit: int | None = None,
    ) -> list[TaskRecord]:
        """Do what `alist_tasks` does, from sync code."""
        return drive(self.alist_tasks(dag_id=dag_id, run_id=run_id, task_id=task_id, after=after, limit=limit))


def _weighed(entry: EntryRecord, reference: str) -> EntryRecord:
    from ..offload.stored import Reference  # few stores have any

    with suppress(StoreCorruptError):  # a list is no place to fail for one row
        return replace(entry, size=Reference.parse(reference).size)
    return entry
