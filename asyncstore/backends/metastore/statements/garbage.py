"""What has expired, and what is left over."""

from __future__ import annotations

from sqlalchemy import Executable, and_, bindparam, case, delete, func, select, tuple_

from ....values import REFERENCE_MARKS
from .. import dialect
from ..dialect import NOW
from ..schema import task_instance, task_state
from .shared import has_state

__all__ = [
    "count_expired",
    "count_run",
    "delete_expired",
    "delete_place",
    "drop_empty_instances",
    "drop_empty_instances_of",
    "drop_run",
    "list_expired",
    "pick_expired",
    "tell_time",
]


_first = func.substr(task_state.c.value, 1, 1)
_reference = case(*((_first == mark, task_state.c.value) for mark in REFERENCE_MARKS))
_expired = and_(task_state.c.expires_at.is_not(None), task_state.c.expires_at <= NOW)


def tell_time() -> Executable:
    """Tell the time."""
    return select(NOW)


def count_expired() -> Executable:
    """Count the expired rows."""
    return select(func.count()).select_from(task_state).where(_expired)


def list_expired() -> Executable:
    """List a page of expired rows, in the order of their expiry."""
    place = tuple_(task_state.c.expires_at, task_state.c.task_instance_id, task_state.c.key)
    behind = tuple_(bindparam("after_expiry"), bindparam("after_id"), bindparam("after_key"))
    instance = task_instance.c
    return (
        select(
            task_state.c.expires_at,
            task_state.c.task_instance_id,
            task_state.c.key,
            *(instance.dag_id, instance.run_id, instance.task_id, instance.map_index),
            _reference,
        )
        .join(task_instance, task_instance.c.id == task_state.c.task_instance_id)
        .where(_expired, place > behind)
        .order_by(*place)
        .limit(dialect.limit("limit"))
    )


def delete_expired() -> Executable:
    """Delete every expired row."""
    return delete(task_state).where(_expired)


def pick_expired() -> Executable:
    """Pick `limit` expired rows, the oldest first."""
    return (
        select(task_state.c.task_instance_id, task_state.c.key)
        .where(_expired)
        .order_by(task_state.c.expires_at)
        .limit(dialect.limit("limit"))
    )


def delete_place() -> Executable:
    """Delete one row of task state by its primary key."""
    return delete(task_state).where(
        task_state.c.task_instance_id == bindparam("task_instance_id"), task_state.c.key == bindparam("key")
    )


def drop_empty_instances() -> Executable:
    """Delete every task instance that has no state."""
    return delete(task_instance).where(~has_state)


def drop_empty_instances_of() -> Executable:
    """Delete those task instances of a list of ids that have no state."""
    return delete(task_instance).where(dialect.in_list(task_instance.c.id, "ids"), ~has_state)


def count_run() -> Executable:
    """Count the rows of a run."""
    return (
        select(func.count())
        .select_from(task_state.join(task_instance))
        .where(task_instance.c.dag_id == bindparam("dag_id"), task_instance.c.run_id == bindparam("run_id"))
    )


def drop_run() -> Executable:
    """Delete the task instances of a run; their state goes with them."""
    return delete(task_instance).where(
        task_instance.c.dag_id == bindparam("dag_id"), task_instance.c.run_id == bindparam("run_id")
    )
