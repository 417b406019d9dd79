"""Create the tables.

Revision ID: 0001
Revises: None
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_CodePoints = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
P = "asyncstore_"


def _parent(column: str, table: str, *, primary_key: bool = False) -> sa.Column[int]:
    target = sa.ForeignKey(f"{P}{table}.id", ondelete="CASCADE")
    return sa.Column(column, _Id, target, primary_key=primary_key, nullable=False, autoincrement=False)


def _state(*columns: sa.Column[Any]) -> list[sa.Column[Any]]:
    return [
        *columns,
        sa.Column("key", _CodePoints, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("updated_by", sa.Text),
        sa.Column("operation", sa.BigInteger),
    ]


def _functions() -> list[str]:
    text = Path(__file__).with_name("0001_functions.sql").read_text()
    return [f"CREATE FUNCTION {each}" for each in re.split(r"^CREATE FUNCTION ", text, flags=re.MULTILINE)[1:]]


def _on_postgresql() -> bool:
    return op.get_bind().dialect.name == "postgresql"


def upgrade() -> None:
    """Create every table, and the one row of the revision; on PostgreSQL the sequence of versions and the functions."""
    if _on_postgresql():
        op.execute(sa.schema.CreateSequence(sa.Sequence(f"{P}version")))
    revision_table = op.create_table(
        f"{P}revision",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("value", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(revision_table, [{"id": 1, "value": 0}])
    op.create_table(
        f"{P}asset",
        sa.Column("id", _Id, primary_key=True),
        sa.Column("name", _CodePoints, nullable=False, unique=True),
        sa.Column("uri", _CodePoints, unique=True),
        sa.Column("named", sa.Boolean, nullable=False),
        sa.Column("group_name", sa.Text, nullable=False),
        sa.Column("extra", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("deactivated_at", sa.BigInteger),
        sqlite_autoincrement=True,
    )
    op.create_table(
        f"{P}asset_state",
        *_state(_parent("asset_id", "asset", primary_key=True)),
        sqlite_with_rowid=False,
    )
    op.create_table(
        f"{P}task_instance",
        sa.Column("id", _Id, primary_key=True),
        sa.Column("dag_id", _CodePoints, nullable=False),
        sa.Column("run_id", _CodePoints, nullable=False),
        sa.Column("task_id", _CodePoints, nullable=False),
        sa.Column("map_index", sa.Integer, nullable=False),
        sa.UniqueConstraint("run_id", "task_id", "dag_id", "map_index"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        f"{P}task_state",
        *_state(_parent("task_instance_id", "task_instance", primary_key=True)),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("expires_hour", sa.BigInteger, sa.Computed("expires_at / 3600000000", persisted=True)),
        sqlite_with_rowid=False,
    )
    by = "expires_hour" if _on_postgresql() else "expires_at"
    where = sa.text(f"{by} IS NOT NULL")
    op.create_index(f"ix_{P}task_state_{by}", f"{P}task_state", [by], sqlite_where=where, postgresql_where=where)
    op.create_table(
        f"{P}watcher",
        sa.Column("id", _Id, primary_key=True),
        _parent("asset_id", "asset"),
        sa.Column("name", _CodePoints, nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("restarts", sa.Integer, nullable=False),
        sa.Column("last_error", sa.Text),
        sa.Column("last_error_at", sa.BigInteger),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("operation", sa.BigInteger),
        sa.Column("last_event_id", sa.BigInteger),
        sa.UniqueConstraint("asset_id", "name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        f"{P}event",
        sa.Column("id", _Id, primary_key=True, autoincrement=False),
        _parent("asset_id", "asset"),
        _parent("watcher_id", "watcher"),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("key", _CodePoints),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_index(f"ix_{P}event_asset_id_id", f"{P}event", ["asset_id", "id"])
    op.create_table(
        f"{P}event_key",
        _parent("watcher_id", "watcher", primary_key=True),
        sa.Column("key", _CodePoints, primary_key=True),
        sa.Column("event_id", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    if _on_postgresql():
        for table in ("asset_state", "task_state"):
            # Room for the next version of a row on its own page, where no index needs to hear of it.
            op.execute(f"ALTER TABLE {P}{table} SET (fillfactor = 80)")
        for function in _functions():
            op.get_bind().exec_driver_sql(function)


def downgrade() -> None:
    """Drop every table, and what belongs to them."""
    if _on_postgresql():
        for function in _functions():
            op.execute(f"DROP FUNCTION {function.removeprefix('CREATE FUNCTION ').partition('(')[0]}")
    for table in ("event_key", "event", "watcher", "task_state", "task_instance", "asset_state", "asset", "revision"):
        op.drop_table(f"{P}{table}")
    if _on_postgresql():
        op.execute(sa.schema.DropSequence(sa.Sequence(f"{P}version")))
