"""Add consumers of events, and what they have in hand.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_CodePoints = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
P = "asyncstore_"


def _parent(column: str, table: str, *, primary_key: bool = False) -> sa.Column[int]:
    target = sa.ForeignKey(f"{P}{table}.id", ondelete="CASCADE")
    return sa.Column(column, _Id, target, primary_key=primary_key, nullable=False, autoincrement=False)


def _partial_index(*columns: str) -> None:
    where = sa.text(f"{columns[-1]} IS NOT NULL")
    name = f"ix_{P}delivery_{'_'.join(columns)}"
    op.create_index(name, f"{P}delivery", list(columns), sqlite_where=where, postgresql_where=where)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        f"{P}consumer",
        sa.Column("id", _Id, primary_key=True),
        _parent("asset_id", "asset"),
        sa.Column("name", _CodePoints, nullable=False),
        sa.Column("start", sa.Text, nullable=False),
        sa.Column("taken", sa.BigInteger, nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("asset_id", "name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        f"{P}member",
        sa.Column("id", _Id, primary_key=True),
        _parent("consumer_id", "consumer"),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("lease_until", sa.BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index(f"ix_{P}member_consumer_id", f"{P}member", ["consumer_id"])
    op.create_table(
        f"{P}delivery",
        _parent("consumer_id", "consumer", primary_key=True),
        sa.Column("event_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("member_id", sa.BigInteger),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("alone", sa.Boolean, nullable=False),
        sa.Column("not_before", sa.BigInteger),
        sa.Column("error", sa.Text),
        sa.Column("failed_at", sa.BigInteger),
        sqlite_with_rowid=False,
    )
    _partial_index("member_id")
    _partial_index("consumer_id", "not_before")


def downgrade() -> None:
    """Drop the tables."""
    for table in ("delivery", "member", "consumer"):
        op.drop_table(f"{P}{table}")
