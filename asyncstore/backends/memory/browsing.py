"""Looking around in the in-memory backend."""

from __future__ import annotations

from typing import final

from ...browsing.abc import Browsing
from ...browsing.records import AssetSummary, EntryRecord, TaskRecord
from ...records import AssetRecord, StoredEntry
from ...scopes import AssetScope, Scope, TaskScope
from ...values import REFERENCE_MARKS, JsonValue, decode
from .locking import Lock
from .tables import HeldAsset, Tables

__all__ = ["MemoryBrowsing", "record_of"]


def record_of(found: HeldAsset) -> AssetRecord:
    """Give what is registered of an asset."""
    extra: JsonValue = decode(found.extra)
    return AssetRecord(
        scope=found.registered.scope,
        name=found.registered.name,
        uri=found.registered.uri or found.registered.name,
        group=found.group,
        extra=extra if isinstance(extra, dict) else {},
        created_at=found.created_at,
        deactivated_at=found.deactivated_at,
    )


@final
class MemoryBrowsing(Browsing):
    """List what the tables hold.

    :param tables: the tables.
    :param lock: guards them.
    """

    def __init__(self, tables: Tables, lock: Lock) -> None:
        self._tables = tables
        self._lock = lock

    async def alist_assets(self, *, after: str = "", limit: int | None = None) -> list[AssetRecord]:
        """List the registered assets by name."""
        with self._lock:
            behind = [each for each in self._tables.assets.values() if each.registered.name > after]
            behind.sort(key=lambda each: each.registered.name)
            return [record_of(each) for each in behind[:limit]]

    async def adescribe_asset(self, scope: AssetScope) -> AssetSummary:
        """Read a registration, and count what hangs on it."""
        with self._lock:
            tables = self._tables
            found = tables.find(scope)
            this = found.registered.id
            return AssetSummary(
                record=record_of(found),
                keys=len(found.rows),
                events=len(tables.events(scope, 0, None)),
                watchers=sum(each.asset_id == this for each in tables.watchers.values()),
                consumers=sum(each.asset_id == this for each in tables.consumers.values()),
            )

    async def alist_entries(
        self, scope: Scope, prefix: str = "", *, after: str = "", limit: int | None = None, values: bool = False
    ) -> list[EntryRecord]:
        """List keys with their versions, times and sizes."""
        with self._lock:
            rows = self._tables.rows(scope)
            fresh = [(key, self._tables.fresh(entry)) for key, entry in rows.items()]
        wanted = [(key, entry) for key, entry in fresh if entry and key.startswith(prefix) and key > after]
        wanted.sort(key=lambda each: each[0])
        return [_entry(key, entry, values) for key, entry in wanted[:limit]]

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
        parts = (run_id, task_id, dag_id)
        found: list[TaskRecord] = []
        with self._lock:
            for scope in sorted(self._tables.tasks, key=_place):
                fresh = [each for each in map(self._tables.fresh, self._tables.tasks[scope].values()) if each]
                named = all(want in {None, part} for want, part in zip(parts, _place(scope), strict=False))
                if fresh and named and (after is None or _place(scope) > _place(after)):
                    found.append(TaskRecord(scope, len(fresh), max(each.updated_at for each in fresh)))
        return found[:limit]


def _place(scope: TaskScope) -> tuple[str, str, str, int]:
    return scope.run_id, scope.task_id, scope.dag_id, scope.map_index


def _entry(key: str, entry: StoredEntry, values: bool) -> EntryRecord:
    refers = entry.text.startswith(REFERENCE_MARKS)
    return EntryRecord(
        key,
        entry.version,
        entry.updated_at,
        entry.expires_at,
        entry.updated_by,
        size=len(entry.text.encode()),
        text=entry.text if values and not refers else None,
        reference=entry.text if refers else None,
    )
