"""What a scope is a row of, and how that row is found."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Table,
    Text,
    and_,
    bindparam,
    func,
    null,
    or_,
    select,
    true,
)

from .dialect import NOW
from .schema import asset, asset_state, task_instance, task_state

__all__ = ["ASSET_BY", "TASK", "Owner"]


class Owner:
    """Name the table that a scope is a row of, the state that hangs on it, and how the row is found."""

    def __init__(self, owner: Table, state: Table, where: ColumnElement[bool]) -> None:
        self.owner = owner
        self.state = state
        self.where = where
        self.is_task = owner is task_instance
        self.foreign: Column[int] = next(column for column in state.primary_key.columns if column.foreign_keys)
        self.inactive: ColumnElement[Any] = null() if self.is_task else asset.c.deactivated_at
        self.expires: ColumnElement[Any] = state.c.expires_at if self.is_task else null()

    def ids(self) -> Any:
        """Give the id of the scope's row."""
        return select(self.owner.c.id).where(self.where)

    def fresh(self) -> ColumnElement[bool]:
        """Hold for rows of state that have not expired."""
        if not self.is_task:
            return true()
        return or_(self.state.c.expires_at.is_(None), self.state.c.expires_at > NOW)


TASK = Owner(
    task_instance,
    task_state,
    and_(
        task_instance.c.dag_id == bindparam("dag_id"),
        task_instance.c.run_id == bindparam("run_id"),
        task_instance.c.task_id == bindparam("task_id"),
        task_instance.c.map_index == bindparam("map_index"),
    ),
)

_uri = bindparam("uri", type_=Text)
_other = asset.alias("other")
#: How an asset is found, by what its scope gives.
ASSET_BY = {
    "id": Owner(asset, asset_state, asset.c.id == bindparam("asset_id", type_=BigInteger)),
    "name": Owner(asset, asset_state, asset.c.name == bindparam("name")),
    "both": Owner(
        asset, asset_state, and_(asset.c.name == bindparam("name"), func.coalesce(asset.c.uri, asset.c.name) == _uri)
    ),
    # An asset known by its name alone has that for its URI; one that was given the URI comes first.
    "uri": Owner(
        asset,
        asset_state,
        asset.c.id
        == func.coalesce(
            select(_other.c.id).where(_other.c.uri == _uri).scalar_subquery(),
            select(_other.c.id).where(_other.c.uri.is_(None), _other.c.name == _uri).scalar_subquery(),
        ),
    ),
}
