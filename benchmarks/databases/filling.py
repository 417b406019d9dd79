"""SQL that fills this store's tables far faster than its accessors could; in each row what they would have written.

Task instance `n`, from 1, is run `n / 100`, task `n % 100`, and has the keys `key 0` to `key 9`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

__all__ = ["KEYS_OF_A_TASK", "POSTGRES", "SQLITE", "Dialect", "asset_rows", "run_of", "task_of", "task_rows"]

KEYS_OF_A_TASK = 10
_TASKS_OF_A_RUN = 100
_SECOND = 1_000_000
_MONTH = 30 * 86_400 * _SECOND
_TOKEN = "x" * 76


@dataclass(frozen=True, slots=True)
class Dialect:
    """Say how the two databases count, and write numbers with leading zeros.

    :ivar series: a table expression named `series` of the numbers `n` from {first} to {last}.
    :ivar padded: `n` with eight digits.
    :ivar versions: what to run when that many {rows} took versions of their own.
    :ivar ids: what to run when rows of {table} were given ids by hand; "" for nothing.
    """

    series: str
    padded: str
    versions: str
    ids: str


SQLITE = Dialect(
    "(WITH RECURSIVE counted(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM counted WHERE n < {last}) "
    "SELECT n FROM counted) AS series",
    "printf('%08d', n)",
    "UPDATE asyncstore_revision SET value = value + {rows}",
    "",
)
POSTGRES = Dialect(
    "generate_series({first}, {last}) AS series(n)",
    "lpad(n::text, 8, '0')",
    "SELECT setval('asyncstore_version', nextval('asyncstore_version') + {rows})",
    "SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))",
)


def run_of(instance: int) -> str:
    """Give the run of a task instance."""
    return f"run {instance // _TASKS_OF_A_RUN}"


def task_of(instance: int) -> str:
    """Give the task of a task instance."""
    return f"task {instance % _TASKS_OF_A_RUN}"


def _now() -> int:
    return time.time_ns() // 1000


def _value() -> str:
    return f"""'{{"page":' || n || ',"token":"{_TOKEN}"}}'"""


def asset_rows(dialect: Dialect, asset_id: int, rows: int) -> list[str]:
    """Give statements that fill the state of one asset with the keys of `measuring.data.keys_of`.

    :param dialect: the database's.
    :param asset_id: the asset.
    :param rows: how many.
    """
    series = dialect.series.format(first=0, last=rows - 1)
    columns = "asset_id, key, value, version, updated_at"
    chosen = f"{asset_id}, 'key ' || {dialect.padded}, {_value()}, n + 1, {_now()}"
    return [
        f"INSERT INTO asyncstore_asset_state ({columns}) SELECT {chosen} FROM {series}",
        dialect.versions.format(rows=rows),
    ]


def task_rows(dialect: Dialect, expired: int, fresh: int) -> list[str]:
    """Give statements that fill the state of tasks: first the expired rows, then those that expire in a month.

    Rows expire in the order in which they were written, as rows of one retention do.

    :param dialect: the database's.
    :param expired: how many rows have expired, one a microsecond.
    :param fresh: how many have not.
    """
    rows, now = expired + fresh, _now()
    instances = -(-rows // KEYS_OF_A_TASK)
    instance, state = "asyncstore_task_instance", "asyncstore_task_state"
    some = dialect.series.format(first=1, last=instances)
    every = dialect.series.format(first=0, last=rows - 1)
    expiry = f"CASE WHEN n < {expired} THEN {now - expired - _SECOND} + n ELSE {now + _MONTH} + n END"
    names = f"n, 'bench', 'run ' || (n / {_TASKS_OF_A_RUN}), 'task ' || (n % {_TASKS_OF_A_RUN}), -1"
    columns = "task_instance_id, key, value, version, updated_at, expires_at"
    place = f"1 + n / {KEYS_OF_A_TASK}, 'key ' || (n % {KEYS_OF_A_TASK})"
    return [
        f"INSERT INTO {instance} (id, dag_id, run_id, task_id, map_index) SELECT {names} FROM {some}",
        f"INSERT INTO {state} ({columns}) SELECT {place}, {_value()}, n + 1, {now}, {expiry} FROM {every}",
        dialect.versions.format(rows=rows),
        *([dialect.ids.format(table=instance)] if dialect.ids else []),
    ]
