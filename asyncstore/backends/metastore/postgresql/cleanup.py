"""Garbage collection on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial

import asyncpg

from ....clock import from_microseconds
from ....records import ExpiredRow
from ....scopes import TaskScope
from .link import Link, Row
from .pool import Pool

__all__ = ["count_expired", "delete_expired", "list_expired"]

_PAGE = 1000
# The clock is read once, and not for each row.
_COUNT = """
WITH clock AS MATERIALIZED (SELECT asyncstore_now($1) AS now)
SELECT now, (SELECT count(*) FROM asyncstore_task_state
  WHERE expires_hour <= (SELECT now FROM clock) / 3600000000 AND expires_at <= (SELECT now FROM clock))
FROM clock
"""
_LIST = """
DECLARE expired NO SCROLL CURSOR FOR
SELECT s.expires_at, s.key, t.dag_id, t.run_id, t.task_id, t.map_index
FROM asyncstore_task_state s JOIN asyncstore_task_instance t ON t.id = s.task_instance_id
WHERE s.expires_hour <= {now} / 3600000000 AND s.expires_at <= {now}
ORDER BY s.expires_at, s.task_instance_id, s.key
"""
_FETCH = f"FETCH {_PAGE} FROM expired"
_DELETE = "SELECT picked, deleted, hour, instances FROM asyncstore_delete_expired($1, $2, $3, $4)"
_DROP_EMPTY = "SELECT asyncstore_drop_empty($1)"
#: Everything, in one statement.
_ALL = 2**62
#: Task instances that are remembered at most until it is looked whether anything is left of them.
_MOST_EMPTIED = 100_000


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
    """Delete the rows that had expired at a time, a batch for each step, and the task instances left without any."""
    hour = -(2**62)
    emptied: set[int] = set()

    async def delete(link: Link, hour: int) -> Row:
        arguments = (now, hour, batch_size or _ALL)
        try:
            return (await link.run(_DELETE, *arguments, False))[0]
        except asyncpg.LockNotAvailableError:
            return (await link.run(_DELETE, *arguments, True))[0]

    while True:
        # What is deleted twice is gone all the same; so it can be repeated where the answer was lost.
        picked, deleted, hour, instances = await pool.run(partial(delete, hour=hour), repeatable=True)
        emptied.update(instances or ())
        done = not batch_size or picked < batch_size
        # An instance loses a row to many batches, and to look for its last one passes over all that it lost.
        if done or len(emptied) > _MOST_EMPTIED:
            await _drop_empty(pool, sorted(emptied), batch_size)
            emptied.clear()
        yield deleted
        if done:
            return


async def _drop_empty(pool: Pool, instances: list[int], batch_size: int) -> None:
    size = batch_size or len(instances) or 1
    for start in range(0, len(instances), size):
        page = instances[start : start + size]
        await pool.run(partial(_drop, page), repeatable=True)


async def _drop(instances: list[int], link: Link) -> None:
    await link.run(_DROP_EMPTY, instances)
