"""Remember the references that rows let go of, and tell stores apart.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

from uuid import uuid4

import sqlalchemy as sa
from alembic import op

from asyncstore.backends.metastore.triggers import drop_triggers, make_triggers

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")
P = "asyncstore_"


def upgrade() -> None:
    """Create the tables and the triggers."""
    op.create_table(
        f"{P}leftover",
        sa.Column("id", _Id, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    identity = op.create_table(f"{P}identity", sa.Column("id", sa.Text, primary_key=True))
    op.bulk_insert(identity, [{"id": uuid4().hex}])
    for statement in make_triggers(op.get_bind().dialect.name):
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    """Drop them; what was to be removed stays where it is."""
    for statement in drop_triggers(op.get_bind().dialect.name):
        op.get_bind().exec_driver_sql(statement)
    for table in ("identity", "leftover"):
        op.drop_table(f"{P}{table}")
