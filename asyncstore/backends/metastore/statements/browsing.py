"""What is there, page by page."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Executable, Table, Text, and_, bindparam, case, func, null, or_, select, tuple_

from ....values import REFERENCE_MARKS
from .. import dialect
from ..owners import TASK, Owner
from ..schema import asset, asset_state, consumer, event, task_instance, task_state, watcher
from .assets import COLUMNS
from .state import read_page

__all__ = ["count_of_asset", "list_assets", "list_entries", "list_tasks"]


def list_assets() -> Executable:
    """List registrations behind a name, by name."""
    behind = asset.c.name > bindparam("after", type_=Text)
    return select(*COLUMNS).where(behind).order_by(asset.c.name).limit(dialect.limit("limit"))


def count_of_asset() -> Executable:
    """Count what hangs on an asset: its state, events, watchers and consumers."""

    def count(table: Table) -> Any:
        mine = table.c.asset_id == bindparam("asset_id", type_=BigInteger)
        return select(func.count()).select_from(table).where(mine).scalar_subquery()

    return select(count(asset_state), count(event), count(watcher), count(consumer))


def list_entries(by: Owner, values: bool) -> Executable:
    """List keys as `list_keys` does, with what is known of each; the text of a reference, of others if asked for."""
    state = by.state.c
    first = func.substr(state.value, 1, 1)
    refers = or_(*(first == mark for mark in REFERENCE_MARKS))
    return read_page(
        by,
        case((refers, state.value), else_=state.value if values else null()),
        case((refers, 1), else_=0),
        dialect.byte_length(state.value),
        state.version,
        state.updated_at,
        by.expires.label("expires_at"),
        state.updated_by,
    )


def list_tasks(*of: str) -> Executable:
    """List the task instances behind one that have state, as their index has them, with how much and since when.

    :param of: the columns that are given.
    """
    this = task_instance.c
    fresh = and_(task_state.c.task_instance_id == this.id, TASK.fresh())
    place = tuple_(this.run_id, this.task_id, this.dag_id, this.map_index)
    after = [bindparam(f"after_{name}", type_=this[name].type) for name in ("run_id", "task_id", "dag_id", "map_index")]
    count = select(func.count()).select_from(task_state).where(fresh).scalar_subquery()
    latest = select(func.max(task_state.c.updated_at)).where(fresh).scalar_subquery()
    return (
        select(this.dag_id, this.run_id, this.task_id, this.map_index, count, latest)
        .where(place > tuple_(*after), *(this[name] == bindparam(name) for name in of))
        .where(select(task_state.c.key).where(fresh).exists())
        .order_by(*place)
        .limit(dialect.limit("limit"))
    )
