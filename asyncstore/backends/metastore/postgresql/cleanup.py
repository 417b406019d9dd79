"""Garbage collection on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial

from ....clock import from_microseconds
from ....records import ExpiredRow
from ....scopes import TaskScope
from .link import Link, Row
from .pool import Pool

__all__ = ["count_expired", "delete_expired", "list_expired"]

_PAGE = 1000
_COUNT = """
SELECT asyncstore_now($1), (SELECT count(*) FROM asyncstore_task_state
  WHERE expires_hour <= asyncstore_now($1) / 3600000000 AND expires_at <= asyncstore_now($1))
"""
_LIST = """
DECLARE expired NO SCROLL CURSOR FOR
SELECT s.expires_at, s.key, t.dag_id, t.run_id, t.task_id, t.map_index
FROM asyncstore_task_state s JOIN asyncstore_task_instance t ON t.id = s.task_instance_id
WHERE s.expires_hour <= {now} / 3600000000 AND s.expires_at <= {now}
ORDER BY s.expires_at, s.task_instance_id, s.key
"""
_FETCH = f"FETCH {_PAGE} FROM expired"
_DELETE = "SELECT deleted, hour FROM asyncstore_delete_expired($1, $2, $3)"
#: Everything, in one statement.
_ALL = 2**62


async def count_expired(pool: Pool, now: int | None) -> tuple[int, int]:
    """Give the time, and how many rows have expired by then."""
    row = (await pool.run(lambda link: link.run(_COUNT, now), repeatable=True))[0]
    return row[0], row[1]


async def list_expired(pool: Pool, now: int) -> AsyncIterator[Sequence[ExpiredRow]]:
    """Give the rows that had expired at a time, page by page, as of one moment and in bounded memory."""
    link = await pool.lend()
    try:
        await link.begin()
        await link.raw.execute(_LIST.format(now=int(now)))
        while rows := await link.raw.fetch(_FETCH):
            yield [_row(row) for row in rows]
    finally:
        pool.drop(link)


def _row(row: Row) -> ExpiredRow:
    expiry, key, *scope = row
    return ExpiredRow(TaskScope(*scope), key, from_microseconds(expiry))


async def delete_expired(pool: Pool, now: int, batch_size: int) -> AsyncIterator[int]:
    """Delete the rows that had expired at a time, a batch for each step."""
    hour = -(2**62)

    async def delete(link: Link, hour: int) -> Row:
        return (await link.run(_DELETE, now, hour, batch_size or _ALL))[0]

    while True:
        # What is deleted twice is gone all the same; so it can be repeated where the answer was lost.
        deleted, hour = await pool.run(partial(delete, hour=hour), repeatable=True)
        yield deleted
        if not batch_size or deleted < batch_size:
            return
