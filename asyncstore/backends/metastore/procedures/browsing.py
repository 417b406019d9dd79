"""What is there, page by page."""

from __future__ import annotations

from typing import Any

from ....browsing.records import AssetSummary, EntryRecord, TaskRecord
from ....clock import from_microseconds
from ....records import AssetRecord
from ....scopes import AssetScope, Scope, TaskScope
from .. import statements
from ..steps import Now, Procedure, ask
from .assets import get_asset, record
from .state import read_page

__all__ = ["describe_asset", "list_assets", "list_entries", "list_tasks"]


def list_assets(after: str, limit: int | None) -> Procedure[list[AssetRecord]]:
    """List registrations behind a name, by name."""
    rows, _ = yield ask(statements.browsing.list_assets, after=after, limit=limit)
    return [record(row) for row in rows]


def describe_asset(scope: AssetScope) -> Procedure[AssetSummary]:
    """Read a registration, and count what hangs on it."""
    found = yield from get_asset(scope)
    rows, _ = yield ask(statements.browsing.count_of_asset, asset_id=found.scope.asset_id)
    return AssetSummary(found, *rows[0])


def list_entries(
    scope: Scope, prefix: str, after: str, limit: int | None, values: bool, now: Now
) -> Procedure[list[EntryRecord]]:
    """List keys with what is known of each."""
    rows = yield from read_page(statements.browsing.list_entries, scope, prefix, after, limit, now, values)
    return [
        EntryRecord(
            key,
            version,
            from_microseconds(updated_at),
            None if expires_at is None else from_microseconds(expires_at),
            updated_by,
            size=size,
            text=None if refers else text,
            reference=text if refers else None,
        )
        for _, key, text, refers, size, version, updated_at, expires_at, updated_by in rows
    ]


def list_tasks(of: dict[str, str], after: TaskScope | None, limit: int | None, now: Now) -> Procedure[list[TaskRecord]]:
    """List the task instances that have state, behind one of them.

    :param of: which; the columns that are given.
    """
    place: dict[str, Any] = {
        "after_run_id": after.run_id if after else "",
        "after_task_id": after.task_id if after else "",
        "after_dag_id": after.dag_id if after else "",
        "after_map_index": after.map_index if after else -1,
    }
    rows, _ = yield ask(statements.browsing.list_tasks, *sorted(of), **of, **place, limit=limit, now=now())
    return [TaskRecord(TaskScope(*row[:4]), row[4], from_microseconds(row[5])) for row in rows]
