"""State of tasks and assets."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Executable, Text, and_, bindparam, delete, insert, select

from .. import dialect
from ..dialect import NOW
from ..owners import TASK, Owner
from ..schema import asset, revision, task_instance, task_state
from .shared import given, has_state

__all__ = [
    "add_task_instance",
    "clear_asset",
    "clear_mapped_instances",
    "clear_task_instance",
    "delete_value",
    "drop_mapped_instances",
    "drop_task_instance",
    "drop_task_instance_if_empty",
    "find_scope",
    "list_keys",
    "read_entry",
    "read_many",
    "read_page",
    "read_value",
    "write_value",
    "write_value_unless_taken",
]


def _read(
    by: Owner, *columns: ColumnElement[Any], on: ColumnElement[bool], page_by: ColumnElement[Any] | None = None
) -> Executable:
    # No row: no such scope. A row without a key: the scope is there, the state is not.
    joined = by.owner.outerjoin(by.state, and_(by.foreign == by.owner.c.id, by.fresh(), on))
    found = select(by.inactive.label("inactive"), by.state.c.key, *columns).select_from(joined).where(by.where)
    return found if page_by is None else found.order_by(page_by).limit(dialect.limit("limit"))


def read_value(by: Owner) -> Executable:
    """Read the text of one key."""
    return _read(by, by.state.c.value, on=by.state.c.key == bindparam("key"))


def read_entry(by: Owner) -> Executable:
    """Read one key with its version and times."""
    state = by.state.c
    return _read(
        by,
        state.value,
        state.version,
        state.updated_at,
        by.expires.label("expires_at"),
        state.updated_by,
        on=state.key == bindparam("key"),
    )


def read_many(by: Owner) -> Executable:
    """Read the texts of several keys, given as a list."""
    return _read(by, by.state.c.value, on=dialect.in_list(by.state.c.key, "keys"))


def list_keys(by: Owner) -> Executable:
    """List the keys from `low` on and before `high`, in the order of their code points."""
    return read_page(by)


def read_page(by: Owner, *columns: ColumnElement[Any]) -> Executable:
    """List keys as `list_keys` does, with more columns."""
    key = by.state.c.key
    return _read(
        by,
        *columns,
        on=and_(key >= bindparam("low", type_=Text), key > bindparam("after", type_=Text), dialect.before(key, "high")),
        page_by=key,
    )


def find_scope(by: Owner) -> Executable:
    """Find the row of a scope."""
    return select(by.owner.c.id, by.inactive.label("inactive")).where(by.where)


def write_value(by: Owner) -> Executable:
    """Write one key of a scope that exists and is active; touches no row otherwise."""
    return _write_value(by)


def write_value_unless_taken(by: Owner) -> Executable:
    """Do what `write_value` does, where no revision was taken behind `last`; touches no row otherwise."""
    return _write_value(by, select(revision.c.value).scalar_subquery() == bindparam("last"))


def _write_value(by: Owner, *conditions: ColumnElement[bool]) -> Executable:
    columns = [by.foreign, by.state.c.key, by.state.c.value, by.state.c.version]
    columns += [by.state.c.updated_at, by.state.c.updated_by]
    values: list[Any] = [by.owner.c.id, bindparam("key", type_=Text), bindparam("value", type_=Text)]
    values += [bindparam("version", type_=BigInteger), NOW, bindparam("updated_by", type_=Text)]
    active = by.where
    if by.is_task:
        columns.append(by.state.c.expires_at)
        values.append(bindparam("expires_at", type_=BigInteger))
    else:
        active = and_(by.where, asset.c.deactivated_at.is_(None))
    return dialect.upsert(by.state, columns, select(*values).where(active, *conditions), keys=2)


def add_task_instance() -> Executable:
    """Add the row of a task instance."""
    return insert(task_instance).values(given(task_instance, "dag_id", "run_id", "task_id", "map_index"))


def delete_value(by: Owner) -> Executable:
    """Delete one key."""
    return delete(by.state).where(by.foreign.in_(by.ids()), by.state.c.key == bindparam("key"))


def clear_asset(by: Owner) -> Executable:
    """Delete every key of an asset."""
    return delete(by.state).where(by.foreign.in_(by.ids()))


def drop_task_instance() -> Executable:
    """Delete a task instance; its state goes with it."""
    return delete(task_instance).where(TASK.where)


def _mapped() -> ColumnElement[bool]:
    return and_(
        task_instance.c.dag_id == bindparam("dag_id"),
        task_instance.c.run_id == bindparam("run_id"),
        task_instance.c.task_id == bindparam("task_id"),
    )


def drop_mapped_instances() -> Executable:
    """Delete every instance of a task, mapped or not; their state goes with them."""
    return delete(task_instance).where(_mapped())


def clear_task_instance() -> Executable:
    """Delete the state of a task instance."""
    return delete(task_state).where(task_state.c.task_instance_id.in_(select(task_instance.c.id).where(TASK.where)))


def clear_mapped_instances() -> Executable:
    """Delete the state of every instance of a task."""
    return delete(task_state).where(task_state.c.task_instance_id.in_(select(task_instance.c.id).where(_mapped())))


def drop_task_instance_if_empty() -> Executable:
    """Delete a task instance that has no state any more."""
    return delete(task_instance).where(TASK.where, ~has_state)
