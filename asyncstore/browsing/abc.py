"""What a backend does for those who look around in it."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ..records import AssetRecord
from ..scopes import AssetScope, Scope, TaskScope
from .records import AssetSummary, EntryRecord, TaskRecord

__all__ = ["Browsing"]


class Browsing(ABC):
    """List what is there, page by page, in an order that an index has; nothing is changed.

    Pages are read one after the other: what is written meanwhile is in those that follow, or is not.
    """

    @abstractmethod
    async def alist_assets(self, *, after: str = "", limit: int | None = None) -> list[AssetRecord]:
        """List the registered assets, deactivated ones too, by name in the order of code points.

        :param after: only names behind this one, to go on with the next page.
        :param limit: how many at most; None for all.
        """

    @abstractmethod
    async def adescribe_asset(self, scope: AssetScope) -> AssetSummary:
        """Read a registration, and count what hangs on it; of a deactivated asset, too.

        :param scope: the asset.
        :raises AssetNotFoundError: nothing is registered there.
        """

    @abstractmethod
    async def alist_entries(
        self, scope: Scope, prefix: str = "", *, after: str = "", limit: int | None = None, values: bool = False
    ) -> list[EntryRecord]:
        """List keys with their versions, times and sizes, in the order of their code points.

        :param scope: what the keys belong to.
        :param prefix: what they begin with, taken literally.
        :param after: only keys behind this one, to go on with the next page.
        :param limit: how many at most; None for all.
        :param values: give the texts, too.
        :return: with the size of what is stored, which for a reference is that of the reference.
        :raises AssetNotFoundError: the asset is unknown.
        :raises AssetInactiveError: the asset is deactivated.
        """

    @abstractmethod
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
