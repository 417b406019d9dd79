"""Registrations of assets."""

from __future__ import annotations

from sqlalchemy import BigInteger, Executable, bindparam, delete, func, insert, null, select, update

from .. import dialect
from ..dialect import NOW
from ..owners import Owner
from ..schema import asset, asset_state
from .shared import given

__all__ = [
    "COLUMNS",
    "add_asset",
    "complete_asset",
    "drop_asset",
    "find_assets",
    "find_assets_by_uri",
    "list_rested_assets",
    "read_asset",
    "read_asset_by_name",
    "read_asset_by_uri",
    "set_activated",
    "set_deactivated",
]


#: Those of a registration.
COLUMNS = [
    *(asset.c.id, asset.c.name, asset.c.uri, asset.c.named, asset.c.group_name, asset.c.extra),
    *(asset.c.created_at, asset.c.deactivated_at),
]


def read_asset(by: Owner) -> Executable:
    """Read a registration."""
    return select(*COLUMNS).where(by.where)


def read_asset_by_name() -> Executable:
    """Read the registration of a name."""
    return select(*COLUMNS).where(asset.c.name == bindparam("name"))


def read_asset_by_uri() -> Executable:
    """Read the registration of a URI that was given."""
    return select(*COLUMNS).where(asset.c.uri == bindparam("uri"))


def find_assets() -> Executable:
    """Find the registrations of names."""
    return select(*COLUMNS[:4]).where(dialect.in_list(asset.c.name, "names"))


def find_assets_by_uri() -> Executable:
    """Find the registrations of URIs that were given."""
    return select(*COLUMNS[:4]).where(dialect.in_list(asset.c.uri, "uris"))


def add_asset() -> Executable:
    """Register an asset; gives its id."""
    columns = given(asset, "name", "uri", "named", "group_name", "extra")
    return insert(asset).values({**columns, "created_at": NOW}).returning(asset.c.id)


def complete_asset() -> Executable:
    """Set the name and URI of an asset."""
    return (
        update(asset)
        .where(asset.c.id == bindparam("asset_id"))
        .values(name=bindparam("new_name"), uri=bindparam("new_uri"), named=bindparam("new_named"))
    )


def set_deactivated(by: Owner) -> Executable:
    """Deactivate an asset that is active, or activate it; a second deactivation keeps the first time."""
    return update(asset).where(by.where).values(deactivated_at=func.coalesce(asset.c.deactivated_at, NOW))


def set_activated(by: Owner) -> Executable:
    """Activate an asset."""
    return update(asset).where(by.where).values(deactivated_at=null())


def drop_asset(by: Owner) -> Executable:
    """Delete an asset; its state, watchers, events and keys go with it."""
    return delete(asset).where(by.where)


def list_rested_assets() -> Executable:
    """List the assets deactivated for `grace` microseconds or longer that still have state, and how many rows."""
    return (
        select(asset.c.id, asset.c.name, func.count())
        .join(asset_state, asset_state.c.asset_id == asset.c.id)
        .where(asset.c.deactivated_at <= NOW - bindparam("grace", type_=BigInteger))
        .group_by(asset.c.id, asset.c.name)
        .order_by(asset.c.name)
    )
