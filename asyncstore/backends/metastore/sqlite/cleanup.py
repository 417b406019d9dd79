"""Garbage collection on SQLite, one function per transaction."""

from __future__ import annotations

import json
import sqlite3

from ....clock import from_microseconds
from ....records import ExpiredRow
from ....scopes import TaskScope
from .. import statements
from ..dialect import sqlite_sql as sql

__all__ = ["START", "Place", "count_expired", "delete_all", "delete_batch", "list_expired"]

#: Where a page of expired rows ends: expiry, task instance, key.
Place = tuple[int, int, str]

#: Before every row.
START: Place = (-(2**63), 0, "")


def count_expired(raw: sqlite3.Connection, now: int) -> int:
    """Count the expired rows."""
    return int(raw.execute(sql(statements.garbage.count_expired), {"now": now}).fetchone()[0])


def list_expired(raw: sqlite3.Connection, now: int, after: Place, limit: int) -> tuple[list[ExpiredRow], Place]:
    """List a page of expired rows, and where it ends."""
    parameters = {"now": now, "after_expiry": after[0], "after_id": after[1], "after_key": after[2], "limit": limit}
    rows = raw.execute(sql(statements.garbage.list_expired), parameters).fetchall()
    page = [
        ExpiredRow(TaskScope(*scope), key, from_microseconds(expiry), reference)
        for expiry, _, key, *scope, reference in rows
    ]
    return page, (rows[-1][0], rows[-1][1], rows[-1][2]) if rows else after


def delete_all(raw: sqlite3.Connection, now: int) -> int:
    """Delete every expired row, and the task instances left without any."""
    deleted = raw.execute(sql(statements.garbage.delete_expired), {"now": now}).rowcount
    if deleted:
        raw.execute(sql(statements.garbage.drop_empty_instances))
    return deleted


def delete_batch(raw: sqlite3.Connection, now: int, limit: int) -> int:
    """Delete some expired rows, and those of their task instances left without any."""
    rows = raw.execute(sql(statements.garbage.pick_expired), {"now": now, "limit": limit}).fetchall()
    if rows:
        # One by one: SQLite would find a list of pairs by their first half only, and read every key of an instance.
        places = ({"task_instance_id": instance, "key": key} for instance, key in rows)
        raw.executemany(sql(statements.garbage.delete_place), places)
        ids = json.dumps(sorted({instance for instance, _ in rows}))
        raw.execute(sql(statements.garbage.drop_empty_instances_of), {"ids": ids})
    return len(rows)
