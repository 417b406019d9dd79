"""Let triggerers share watchers under leases.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import re
from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")
P = "asyncstore_"
_COMMIT = f"{P}commit"
_ADDED = {
    "triggerer_id": sa.BigInteger,
    "asked": sa.Text,
    "claimed_at": sa.BigInteger,
    "last_event_at": sa.BigInteger,
    "minute": sa.BigInteger,
    "minute_events": sa.Integer,
    "minute_before": sa.Integer,
}
#: Columns, and the rows that are in it.
_INDEXES = {
    f"ix_{P}watcher_triggerer_id": (["triggerer_id"], ""),
    f"ix_{P}watcher_free": (["id"], "triggerer_id IS NULL AND state = 'waiting'"),
    f"ix_{P}watcher_asked": (["triggerer_id"], "asked IS NOT NULL"),
}


def _on_postgresql() -> bool:
    return op.get_bind().dialect.name == "postgresql"


def _function(file: str, name: str) -> str:
    text = Path(__file__).with_name(file).read_text()
    functions = re.split(r"^CREATE FUNCTION ", text, flags=re.MULTILINE)[1:]
    return f"CREATE FUNCTION {next(each for each in functions if each.startswith(f'{name}('))}"


def upgrade() -> None:
    """Add the triggerers, what they declare, and what a watcher's row says of who runs it and how it goes."""
    for name, kind in _ADDED.items():
        op.add_column(f"{P}watcher", sa.Column(name, kind()))
    for name, (columns, condition) in _INDEXES.items():
        only = sa.text(condition) if condition else None
        op.create_index(name, f"{P}watcher", columns, sqlite_where=only, postgresql_where=only)
    # Nobody runs them: their processes were stopped for the upgrade.
    op.execute(f"UPDATE {P}watcher SET state = 'waiting'")  # noqa: S608
    op.create_table(
        f"{P}triggerer",
        sa.Column("id", _Id, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("token", sa.Text, nullable=False),
        sa.Column("process", sa.Text),
        sa.Column("capacity", sa.Integer, nullable=False),
        sa.Column("declares", sa.Text, nullable=False),
        sa.Column("draining", sa.Boolean, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("heartbeat_at", sa.BigInteger, nullable=False),
        sa.Column("lease_until", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("token"),
        sqlite_autoincrement=True,
    )
    target = sa.ForeignKey(f"{P}watcher.id", ondelete="CASCADE")
    op.create_table(
        f"{P}declaration",
        sa.Column("declares", sa.Text, primary_key=True),
        sa.Column("watcher_id", _Id, target, primary_key=True, nullable=False, autoincrement=False),
        sqlite_with_rowid=False,
    )
    if _on_postgresql():
        _drop(_COMMIT)
        for name in (f"{P}tell_words", _COMMIT):
            op.get_bind().exec_driver_sql(_function("0002_functions.sql", name))


def _drop(function: str) -> None:
    op.execute(f"DROP FUNCTION {function}")


def downgrade() -> None:
    """Take it all away again."""
    if _on_postgresql():
        _drop(_COMMIT)
        _drop(f"{P}tell_words")
        op.get_bind().exec_driver_sql(_function("0001_functions.sql", _COMMIT))
    op.drop_table(f"{P}declaration")
    op.drop_table(f"{P}triggerer")
    for name in _INDEXES:
        op.drop_index(name, f"{P}watcher")
    for name in _ADDED:
        op.drop_column(f"{P}watcher", name)
    op.execute(f"UPDATE {P}watcher SET state = 'stopped' WHERE state NOT IN ('running', 'backing off', 'done')")  # noqa: S608
