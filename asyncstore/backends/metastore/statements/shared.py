"""What several statements have in common."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Table, bindparam, exists

from ..schema import task_instance, task_state

__all__ = ["given", "has_state"]

#: Hold where a task instance has state.
has_state = exists().where(task_state.c.task_instance_id == task_instance.c.id)


def given(table: Table, *names: str) -> dict[str, ColumnElement[Any]]:
    """Give the parameters of columns by their names."""
    return {name: bindparam(name, type_=table.c[name].type) for name in names}
