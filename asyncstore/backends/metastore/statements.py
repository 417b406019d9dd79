"""Every statement of the metastore, by name. `dialect` turns them into SQL text for a driver.

Bound parameters carry the names of the columns they are compared with or written to, `now` for the clock.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Executable,
    Integer,
    Table,
    Text,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    null,
    select,
    text,
    tuple_,
    update,
)

from . import dialect
from .dialect import NOW
from .owners import TASK, Owner
from .schema import asset, asset_state, event, event_key, revision, task_instance, task_state, watcher

# Whoever needs a statement names the module: `statements.read_value`.


def _read(
    by: Owner, *columns: ColumnElement[Any], on: ColumnElement[bool], page_by: ColumnElement[Any] | None = None
) -> Executable:
    # No row: no such scope. A row without a key: the scope is there, the state is not.
    joined = by.owner.outerjoin(by.state, and_(by.foreign == by.owner.c.id, by.fresh(), on))
    found = select(by.inactive.label("inactive"), by.state.c.key, *columns).select_from(joined).where(by.where)
    return found if page_by is None else found.order_by(page_by).limit(dialect.limit("limit"))


def _given(table: Table, *names: str) -> dict[str, ColumnElement[Any]]:
    return {name: bindparam(name, type_=table.c[name].type) for name in names}


_has_state = exists().where(task_state.c.task_instance_id == task_instance.c.id)


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
    key = by.state.c.key
    return _read(
        by,
        on=and_(key >= bindparam("low", type_=Text), key > bindparam("after", type_=Text), dialect.before(key, "high")),
        page_by=key,
    )


def find_scope(by: Owner) -> Executable:
    """Find the row of a scope."""
    return select(by.owner.c.id, by.inactive.label("inactive")).where(by.where)


def next_revisions() -> Executable:
    """Take `count` revisions; gives the last of them."""
    return update(revision).values(value=revision.c.value + bindparam("count")).returning(revision.c.value)


def hold_revision() -> Executable:
    """Take SQLite's write lock, and change nothing."""
    return update(revision).values(value=revision.c.value)


def savepoint() -> Executable:
    """Set a mark to go back to."""
    return text("SAVEPOINT asyncstore")


def undo_to_savepoint() -> Executable:
    """Undo what was done behind the mark."""
    return text("ROLLBACK TO asyncstore")


def release_savepoint() -> Executable:
    """Take the mark away."""
    return text("RELEASE asyncstore")


def last_revision() -> Executable:
    """Read the last revision that was taken."""
    return select(revision.c.value)


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
    return insert(task_instance).values(_given(task_instance, "dag_id", "run_id", "task_id", "map_index"))


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
    return delete(task_instance).where(TASK.where, ~_has_state)


# Assets.

_ASSET = [
    *(asset.c.id, asset.c.name, asset.c.uri, asset.c.named, asset.c.group_name, asset.c.extra),
    *(asset.c.created_at, asset.c.deactivated_at),
]


def read_asset(by: Owner) -> Executable:
    """Read a registration."""
    return select(*_ASSET).where(by.where)


def read_asset_by_name() -> Executable:
    """Read the registration of a name."""
    return select(*_ASSET).where(asset.c.name == bindparam("name"))


def read_asset_by_uri() -> Executable:
    """Read the registration of a URI that was given."""
    return select(*_ASSET).where(asset.c.uri == bindparam("uri"))


def add_asset() -> Executable:
    """Register an asset; gives its id."""
    given = _given(asset, "name", "uri", "named", "group_name", "extra")
    return insert(asset).values({**given, "created_at": NOW}).returning(asset.c.id)


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


# Garbage.

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
    return delete(task_instance).where(~_has_state)


def drop_empty_instances_of() -> Executable:
    """Delete those task instances of a list of ids that have no state."""
    return delete(task_instance).where(dialect.in_list(task_instance.c.id, "ids"), ~_has_state)


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


# Watchers and events.


def claim_watcher() -> Executable:
    """Claim a watcher with the next fencing number; gives its id and the number."""
    columns = [watcher.c.asset_id, watcher.c.name, watcher.c.fence, watcher.c.owner, watcher.c.state]
    columns += [watcher.c.restarts, watcher.c.updated_at]
    return dialect.claim(watcher, columns, {"updated_at": NOW}).returning(watcher.c.id, watcher.c.fence)


def check_lease() -> Executable:
    """Read the fencing number of a watcher, and since when its asset is inactive."""
    return (
        select(watcher.c.fence, asset.c.deactivated_at)
        .join(asset, asset.c.id == watcher.c.asset_id)
        .where(watcher.c.id == bindparam("watcher_id"))
    )


def report_watcher() -> Executable:
    """Keep what a watcher is doing, while the lease holds."""
    error = bindparam("error", type_=Text)
    return (
        update(watcher)
        .where(watcher.c.id == bindparam("watcher_id"), watcher.c.fence == bindparam("lease_fence"))
        .values(
            state=bindparam("new_state"),
            restarts=watcher.c.restarts + bindparam("more", type_=Integer),
            last_error=func.coalesce(error, watcher.c.last_error),
            last_error_at=case((error.is_(None), watcher.c.last_error_at), else_=NOW),
            updated_at=NOW,
        )
    )


def list_watchers() -> Executable:
    """List every watcher by asset and name."""
    columns = [watcher.c.state, watcher.c.fence, watcher.c.owner, watcher.c.restarts, watcher.c.last_error]
    columns += [watcher.c.last_error_at, watcher.c.updated_at]
    return (
        select(asset.c.name.label("asset_name"), watcher.c.name, *columns)
        .join(asset, asset.c.id == watcher.c.asset_id)
        .order_by(asset.c.name, watcher.c.name)
    )


def find_event_key() -> Executable:
    """Find the event that a watcher recorded under a key."""
    return select(event_key.c.event_id).where(
        event_key.c.watcher_id == bindparam("watcher_id"), event_key.c.key == bindparam("key")
    )


def add_event_key() -> Executable:
    """Keep the key of an event."""
    return insert(event_key).values(_given(event_key, "watcher_id", "key", "event_id"))


def add_event() -> Executable:
    """Record an event."""
    columns = ("id", "asset_id", "watcher_id", "payload", "key", "created_at")
    return insert(event).values(_given(event, *columns))


def list_events(of_asset: bool) -> Executable:
    """List events behind an id, in the order of their commits; of one asset, or of all."""
    statement = (
        select(event.c.id, asset.c.name, watcher.c.name, event.c.payload, event.c.key, event.c.created_at)
        .join(asset, asset.c.id == event.c.asset_id)
        .join(watcher, watcher.c.id == event.c.watcher_id)
        .where(event.c.id > bindparam("after"))
    )
    if of_asset:
        statement = statement.where(event.c.asset_id == bindparam("asset_id"))
    return statement.order_by(event.c.id).limit(dialect.limit("limit"))
