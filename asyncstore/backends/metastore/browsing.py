"""Looking around in the metastore."""

from __future__ import annotations

from typing import final

from ...browsing.abc import Browsing
from ...browsing.records import AssetSummary, EntryRecord, TaskRecord
from ...records import AssetRecord
from ...scopes import AssetScope, Scope, TaskScope
from .database import Database
from .procedures import browsing

__all__ = ["MetastoreBrowsing"]


@final
class MetastoreBrowsing(Browsing):
    """List what the database holds: a page is one statement.

    :param database: the database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def alist_assets(self, *, after: str = "", limit: int | None = None) -> list[AssetRecord]:
        """List the registered assets by name."""
        return await self._database.read(browsing.list_assets, after, limit)

    async def adescribe_asset(self, scope: AssetScope) -> AssetSummary:
        """Read a registration, and count what hangs on it."""
        return await self._database.read(browsing.describe_asset, scope)

    async def alist_entries(
        self, scope: Scope, prefix: str = "", *, after: str = "", limit: int | None = None, values: bool = False
    ) -> list[EntryRecord]:
        """List keys with their versions, times and sizes."""
        return await self._database.read(browsing.list_entries, scope, prefix, after, limit, values, self._database.now)

    async def alist_tasks(
        self,
        *,
        dag_id: str | None = None,
        run_id: str | None = None,
        task_id: str | None = None,
        after: TaskScope | None = None,
        limit: int | None = None,
    ) -> list[TaskRecord]:
        """List the task instances that have state."""
        given = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id}
        of = {name: part for name, part in given.items() if part is not None}
        return await self._database.read(browsing.list_tasks, of, after, limit, self._database.now)
