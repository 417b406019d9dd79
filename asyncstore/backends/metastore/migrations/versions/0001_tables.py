"""Create the tables.

Revision ID: 0001
Revises: None
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")
P = "asyncstore_"


def _parent(column: str, table: str, *, primary_key: bool = False) -> sa.Column[int]:
    target = sa.ForeignKey(f"{P}{table}.id", ondelete="CASCADE")
    return sa.Column(column, _Id, target, primary_key=primary_key, nullable=False, autoincrement=False)


def _state(*columns: sa.Column[Any]) -> list[sa.Column[Any]]:
    return [
        *columns,
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("updated_by", sa.Text),
    ]


def upgrade() -> None:
    """Create every table, and the one row of the revision."""
    revision_table = op.create_table(
        f"{P}revision",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("value", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(revision_table, [{"id": 1, "value": 0}])
    op.create_table(
        f"{P}asset",
        sa.Column("id", _Id, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("uri", sa.Text, unique=True),
        sa.Column("named", sa.Boolean, nullable=False),
        sa.Column("group_name", sa.Text, nullable=False),
        sa.Column("extra", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("deactivated_at", sa.BigInteger),
        sqlite_autoincrement=True,
    )
    op.create_table(f"{P}asset_state", *_state(_parent("asset_id", "asset", primary_key=True)), sqlite_with_rowid=False)
    op.create_table(
        f"{P}task_instance",
        sa.Column("id", _Id, primary_key=True),
        sa.Column("dag_id", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("task_id", sa.Text, nullable=False),
        sa.Column("map_index", sa.Integer, nullable=False),
        sa.UniqueConstraint("run_id", "task_id", "dag_id", "map_index"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        f"{P}task_state",
        *_state(_parent("task_instance_id", "task_instance", primary_key=True)),
        sa.Column("expires_at", sa.BigInteger),
        sqlite_with_rowid=False,
    )
    op.create_index(
        f"ix_{P}task_state_expires_at",
        f"{P}task_state",
        ["expires_at"],
        sqlite_where=sa.text("expires_at IS NOT NULL"),
        postgresql_where=sa.text("expires_at IS NOT NULL"),
    )
    op.create_table(
        f"{P}watcher",
        sa.Column("id", _Id, primary_key=True),
        _parent("asset_id", "asset"),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("restarts", sa.Integer, nullable=False),
        sa.Column("last_error", sa.Text),
        sa.Column("last_error_at", sa.BigInteger),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("asset_id", "name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        f"{P}event",
        sa.Column("id", _Id, primary_key=True, autoincrement=False),
        _parent("asset_id", "asset"),
        _parent("watcher_id", "watcher"),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("key", sa.Text),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_index(f"ix_{P}event_asset_id_id", f"{P}event", ["asset_id", "id"])
    op.create_table(
        f"{P}event_key",
        _parent("watcher_id", "watcher", primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("event_id", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Drop every table."""
    for table in ("event_key", "event", "watcher", "task_state", "task_instance", "asset_state", "asset", "revision"):
        op.drop_table(f"{P}{table}")
