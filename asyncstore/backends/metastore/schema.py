"""The tables of the metastore, the same on every database.

Where the outcome of a commit was lost with the connection, `operation` tells it: a number that the writer drew, kept
beside the row it wrote last. Only PostgreSQL needs it.

Times are microseconds since 1970-01-01T00:00:00Z: exact, comparable, and of one size. Text columns hold UTF-8 and
compare by code point. A task instance has a row only while it has state, so that neither table outgrows the other.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    Column,
    Computed,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Sequence,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.event import listen

from .dialect import CodePoints
from .triggers import make_triggers

__all__ = [
    "HOUR",
    "PREFIX",
    "VERSION_TABLE",
    "asset",
    "asset_state",
    "consumer",
    "delivery",
    "event",
    "event_key",
    "identity",
    "leftover",
    "member",
    "metadata",
    "revision",
    "task_instance",
    "task_state",
    "version",
    "watcher",
]

PREFIX = "asyncstore_"
#: Microseconds.
HOUR = 3_600_000_000
VERSION_TABLE = f"{PREFIX}alembic_version"

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
    }
)

# SQLite counts only an INTEGER PRIMARY KEY up by itself.
_Id = BigInteger().with_variant(Integer, "sqlite")

#: On PostgreSQL versions come from here: one row for all would have every writer wait for every other.
version = Sequence(f"{PREFIX}version", metadata=metadata)

#: One row: the store-wide revision, from which event ids come and, on SQLite, versions. Whoever takes an event id
#: holds the row until the commit, so that events become visible in the order of their ids.
revision = Table(
    f"{PREFIX}revision",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("value", BigInteger, nullable=False),
)

#: `name` is the URI while only that is known (`named` says so); `uri` is null while only the name is known.
#: `sqlite_autoincrement` keeps ids of deleted assets from being used again.
asset = Table(
    f"{PREFIX}asset",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("name", CodePoints, nullable=False, unique=True),
    Column("uri", CodePoints, unique=True),
    Column("named", Boolean, nullable=False),
    Column("group_name", Text, nullable=False),
    Column("extra", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("deactivated_at", BigInteger),
    sqlite_autoincrement=True,
)

asset_state = Table(
    f"{PREFIX}asset_state",
    metadata,
    Column("asset_id", _Id, ForeignKey(asset.c.id, ondelete="CASCADE"), primary_key=True),
    Column("key", CodePoints, primary_key=True),
    Column("value", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("updated_by", Text),
    Column("operation", BigInteger),
    sqlite_with_rowid=False,
)

task_instance = Table(
    f"{PREFIX}task_instance",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("dag_id", CodePoints, nullable=False),
    Column("run_id", CodePoints, nullable=False),
    Column("task_id", CodePoints, nullable=False),
    Column("map_index", Integer, nullable=False),
    UniqueConstraint("run_id", "task_id", "dag_id", "map_index"),  # the selective ones first
    sqlite_autoincrement=True,
)

task_state = Table(
    f"{PREFIX}task_state",
    metadata,
    Column("task_instance_id", _Id, ForeignKey(task_instance.c.id, ondelete="CASCADE"), primary_key=True),
    Column("key", CodePoints, primary_key=True),
    Column("value", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("updated_by", Text),
    Column("operation", BigInteger),
    Column("expires_at", BigInteger),
    Column("expires_hour", BigInteger, Computed(f"expires_at / {HOUR}", persisted=True)),
    sqlite_with_rowid=False,
)
# Every write moves `expires_at`. On PostgreSQL an index on it would have every write touch every index; the hour
# stays the same for most.
Index(
    f"ix_{PREFIX}task_state_expires_at",
    task_state.c.expires_at,
    sqlite_where=task_state.c.expires_at.is_not(None),
).ddl_if(dialect="sqlite")
Index(
    f"ix_{PREFIX}task_state_expires_hour",
    task_state.c.expires_hour,
    postgresql_where=task_state.c.expires_hour.is_not(None),
).ddl_if(dialect="postgresql")

#: What is free, see `statements.fleet`.
_FREE = "triggerer_id IS NULL AND state = 'waiting'"


def _only(condition: str) -> dict[str, Any]:
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


watcher = Table(
    f"{PREFIX}watcher",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("asset_id", _Id, ForeignKey(asset.c.id, ondelete="CASCADE"), nullable=False),
    Column("name", CodePoints, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("owner", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("restarts", Integer, nullable=False),
    Column("last_error", Text),
    Column("last_error_at", BigInteger),
    Column("updated_at", BigInteger, nullable=False),
    Column("operation", BigInteger),
    Column("last_event_id", BigInteger),
    Column("triggerer_id", BigInteger),
    Column("asked", Text),
    Column("claimed_at", BigInteger),
    Column("last_event_at", BigInteger),
    Column("minute", BigInteger),
    Column("minute_events", Integer),
    Column("minute_before", Integer),
    UniqueConstraint("asset_id", "name"),
    Index(f"ix_{PREFIX}watcher_triggerer_id", "triggerer_id"),
    Index(f"ix_{PREFIX}watcher_free", "id", **_only(_FREE)),
    Index(f"ix_{PREFIX}watcher_asked", "triggerer_id", **_only("asked IS NOT NULL")),
    sqlite_autoincrement=True,
)

#: Who runs watchers, each under one lease. No foreign key leads here: who is gone is found by not being here.
triggerer = Table(
    f"{PREFIX}triggerer",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("token", Text, nullable=False, unique=True),
    Column("process", Text),
    Column("capacity", Integer, nullable=False),
    Column("declares", Text, nullable=False),
    Column("draining", Boolean, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("heartbeat_at", BigInteger, nullable=False),
    Column("lease_until", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

#: Which watchers a triggerer can run, by a digest of the set: equal triggerers share the rows.
declaration = Table(
    f"{PREFIX}declaration",
    metadata,
    Column("declares", Text, primary_key=True),
    Column("watcher_id", _Id, ForeignKey(watcher.c.id, ondelete="CASCADE"), primary_key=True),
    sqlite_with_rowid=False,
)

# No index on `watcher_id`: only the deletion of an asset looks for it, and every event would pay.
event = Table(
    f"{PREFIX}event",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("asset_id", _Id, ForeignKey(asset.c.id, ondelete="CASCADE"), nullable=False),
    Column("watcher_id", _Id, ForeignKey(watcher.c.id, ondelete="CASCADE"), nullable=False),
    Column("payload", Text, nullable=False),
    Column("key", Text),
    Column("created_at", BigInteger, nullable=False),
    Index(f"ix_{PREFIX}event_asset_id_id", "asset_id", "id"),
)

#: Which keys a watcher recorded, and as which event. No foreign key to the event: keys outlive it.
event_key = Table(
    f"{PREFIX}event_key",
    metadata,
    Column("watcher_id", _Id, ForeignKey(watcher.c.id, ondelete="CASCADE"), primary_key=True),
    Column("key", CodePoints, primary_key=True),
    Column("event_id", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

#: Who reads the events of an asset under one name, and where that began. `taken` is the largest id that was handed out
#: so far; `fence` counts the takings, so that each delivery can be told from every other one of the same event.
consumer = Table(
    f"{PREFIX}consumer",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("asset_id", _Id, ForeignKey(asset.c.id, ondelete="CASCADE"), nullable=False),
    Column("name", CodePoints, nullable=False),
    Column("start", Text, nullable=False),
    Column("taken", BigInteger, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("asset_id", "name"),
    sqlite_autoincrement=True,
)

#: A reader of a consumer, and until when what it holds is its own: one lease, however many deliveries.
member = Table(
    f"{PREFIX}member",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("consumer_id", _Id, ForeignKey(consumer.c.id, ondelete="CASCADE"), nullable=False),
    Column("owner", Text, nullable=False),
    Column("lease_until", BigInteger, nullable=False),
    Index(f"ix_{PREFIX}member_consumer_id", "consumer_id"),
    sqlite_autoincrement=True,
)

#: The events that were handed out and are not done: in hand (`member_id`), waiting for another attempt (`not_before`)
#: or set aside (`failed_at`). No foreign key to the event: each delivery would lock its row.
delivery = Table(
    f"{PREFIX}delivery",
    metadata,
    Column("consumer_id", _Id, ForeignKey(consumer.c.id, ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("event_id", BigInteger, primary_key=True, autoincrement=False),
    Column("member_id", BigInteger),
    Column("fence", BigInteger, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("alone", Boolean, nullable=False),
    Column("not_before", BigInteger),
    Column("error", Text),
    Column("failed_at", BigInteger),
    sqlite_with_rowid=False,
)
Index(
    f"ix_{PREFIX}delivery_member_id",
    delivery.c.member_id,
    sqlite_where=delivery.c.member_id.is_not(None),
    postgresql_where=delivery.c.member_id.is_not(None),
)
Index(
    f"ix_{PREFIX}delivery_consumer_id_not_before",
    delivery.c.consumer_id,
    delivery.c.not_before,
    sqlite_where=delivery.c.not_before.is_not(None),
    postgresql_where=delivery.c.not_before.is_not(None),
)

#: References that rows held and hold no more, until what they refer to is removed (`triggers`).
leftover = Table(
    f"{PREFIX}leftover",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("value", Text, nullable=False),
    sqlite_autoincrement=True,
)

#: One row: what tells this store from every other one, drawn when the tables are made.
identity = Table(f"{PREFIX}identity", metadata, Column("id", Text, primary_key=True))

for _dialect in ("sqlite", "postgresql"):
    for _statement in make_triggers(_dialect):
        listen(metadata, "after_create", DDL(_statement).execute_if(dialect=_dialect))  # type: ignore[no-untyped-call]
