"""Garbage collection on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from time import monotonic
from typing import TypeVar

import asyncpg

from ....clock import from_microseconds
from ....errors import StoreError
from ....records import ExpiredRow
from ....scopes import TaskScope
from .errors import Fate, explain, fate, is_driver_error
from .link import Link, Row
from .pool import Pool

__all__ = ["count_expired", "delete_expired", "list_expired"]

T = TypeVar("T")

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
SELECT s.expires_at, s.key, t.dag_id, t.run_id, t.task_id, t.map_index,
  CASE WHEN substr(s.value, 1, 1) IN ('@', '&') THEN s.value END
FROM asyncstore_task_state s JOIN asyncstore_task_instance t ON t.id = s.task_instance_id
WHERE s.expires_hour <= {now} / 3600000000 AND s.expires_at <= {now}
ORDER BY s.expires_at, s.task_instance_id, s.key
"""
_FETCH = f"FETCH {_PAGE} FROM expired"
_DELETE = "SELECT picked, deleted, hour, instances FROM asyncstore_delete_expired($1, $2, $3, $4)"
_ALIVE = "SELECT FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2"
_DROP_EMPTY = "SELECT asyncstore_drop_empty($1)"
#: Everything, in one statement.
_ALL = 2**62
#: Task instances that are dropped in one statement.
_MOST_DROPPED = 10_000
#: Task instances that are remembered at most until it is looked whether anything is left of them.
_MOST_EMPTIED = 100_000


async def count_expired(pool: Pool, now: int | None) -> tuple[int, int]:
    """Give the time, and how many rows have expired by then."""
    row = (await _at_length(pool, lambda link: link.run(_COUNT, now)))[0]
    return row[0], row[1]


async def _at_length(pool: Pool, operation: Callable[[Link], Awaitable[T]]) -> T:
    """Run what may take longer than an operation may, for as long as the server works on it; it can be repeated."""
    deadline = monotonic() + pool.operation_timeout
    while True:
        link = await pool.lend()
        watch = asyncio.create_task(_watch(pool, link), name="asyncstore cleanup watch")
        try:
            return await operation(link)
        except Exception as error:
            error = link.why(error)
            if not is_driver_error(error):
                raise
            if fate(error) is not Fate.LOST or monotonic() > deadline:
                raise explain(error, pool.target.place) from error
        finally:
            watch.cancel()
            pool.drop(link)


async def _watch(pool: Pool, link: Link) -> None:
    process, began = link.backend
    while True:
        await asyncio.sleep(pool.operation_timeout / 2)
        if began is not None:  # else it is a pooler's business
            try:
                alive = await pool.run(lambda other: other.run(_ALIVE, process, began), repeatable=True)
            except StoreError:
                alive = []
            if not alive:
                link.give_up()
                return


async def list_expired(pool: Pool, now: int) -> AsyncIterator[Sequence[ExpiredRow]]:
    """Give the rows that had expired at a time, page by page, as of one moment and in bounded memory."""
    link = await pool.lend()
    try:
        await link.begin()
        await link.raw.execute(_LIST.format(now=int(now)))
        while rows := await link.raw.fetch(_FETCH):
            yield [_row(row) for row in rows]
    except Exception as error:
        if not is_driver_error(error):
            raise
        raise explain(error, pool.target.place) from error
    finally:
        pool.drop(link)


def _row(row: Row) -> ExpiredRow:
    expiry, key, *scope, reference = row
    return ExpiredRow(TaskScope(*scope), key, from_microseconds(expiry), reference)


async def delete_expired(pool: Pool, now: int, batch_size: int) -> AsyncIterator[int]:
    """Delete the rows that had expired at a time, a batch for each step, and the task instances left without any."""
    hour = -(2**62)
    emptied: set[int] = set()
    skip_locked = False

    async def delete(link: Link) -> Row:
        nonlocal skip_locked
        arguments = (now, hour, batch_size or _ALL)
        if not skip_locked:
            try:
                return (await link.run(_DELETE, *arguments, False))[0]
            except asyncpg.LockNotAvailableError:
                skip_locked = True  # it is waited for once, and not again for each batch
        return (await link.run(_DELETE, *arguments, True))[0]

    while True:
        # What is deleted twice is gone all the same; so it can be repeated where the answer was lost.
        found = await (pool.run(delete, repeatable=True) if batch_size else _at_length(pool, delete))
        picked, deleted, hour, instances = found
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
    size = batch_size or _MOST_DROPPED
    for start in range(0, len(instances), size):
        page = instances[start : start + size]
        await pool.run(partial(_drop, page), repeatable=True)


async def _drop(instances: list[int], link: Link) -> None:
    await link.run(_DROP_EMPTY, instances)
