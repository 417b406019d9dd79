"""How the values of a row become JSON, and positions are found again."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from triggers.sources.table.values import freeze, thaw
from triggers.testing import run_watcher

from .support import PostgresDatabase, SqliteFile

VALUES: list[Any] = [
    *(
        None,
        True,
        1,
        2**70,
        0.1,
        float("-inf"),
        "x\0'",
        Decimal("1.10"),
        b"\0\xff",
        UUID(int=7),
        timedelta(seconds=1.5),
    ),
    *(date(2026, 1, 1), datetime(2026, 1, 1, 1, 2, 3, 4), datetime(2026, 1, 1, tzinfo=UTC), time(1, 2, 3)),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_position_is_found_again(value: Any) -> None:
    assert thaw(freeze(value)) == value
    assert type(thaw(freeze(value))) is type(value)


@pytest.mark.parametrize("value", [float("nan"), Decimal("NaN"), object()], ids=["nan", "NaN", "object"])
def test_what_is_found_never_again_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="nothing that can be found again"):
        freeze(value)


@pytest.mark.anyio
async def test_values_of_postgresql(postgresql: PostgresDatabase) -> None:
    columns = {
        "b": ("boolean", "true", True),
        "n": ("numeric", "1.10", "1.10"),
        "f": ("float8", "'NaN'", "nan"),
        "t": ("timestamptz", "'2026-01-01 01:00+01'", "2026-01-01T00:00:00+00:00"),
        "d": ("date", "'2026-01-01'", "2026-01-01"),
        "i": ("interval", "'90 seconds'", 90.0),
        "u": ("uuid", "'00000000-0000-0000-0000-000000000007'", "00000000-0000-0000-0000-000000000007"),
        "y": ("bytea", "'\\x0001'", "AAE="),
        "j": ("jsonb", """'{"a": [1, null]}'""", {"a": [1, None]}),
        "h": ("json", """'{"\\ud83d": ["\\ud83d", "\\ud83d\\ude00"]}'""", {"\ufffd": ["\ufffd", "\U0001f600"]}),
        "a": ("int[]", "'{1,2}'", [1, 2]),
        "p": ("inet", "'10.0.0.1'", "10.0.0.1"),
        "x": ("text", "NULL", None),
    }
    fields = ", ".join(f"{name} {kind}" for name, (kind, _, _) in columns.items())
    postgresql.run(f"CREATE TABLE orders (id int PRIMARY KEY, {fields})")
    postgresql.run(f"INSERT INTO orders VALUES (1, {', '.join(text for _, text, _ in columns.values())})")
    async with run_watcher(postgresql.trigger(once=True)) as watching:
        await watching.wait_done()
    assert watching.payloads == [{"id": 1, **{name: expected for name, (_, _, expected) in columns.items()}}]


@pytest.mark.anyio
async def test_values_of_sqlite(sqlite: SqliteFile) -> None:
    sqlite.run("CREATE TABLE orders (id integer PRIMARY KEY, b boolean, n decimal, j json, k json, y blob, t datetime)")
    sqlite.run("""INSERT INTO orders VALUES (1, 1, 1.5, '{"a": 1}', 'no json', x'0001', 'whatever')""")
    async with run_watcher(sqlite.trigger(once=True)) as watching:
        await watching.wait_done()
    assert watching.payloads == [
        {"id": 1, "b": True, "n": "1.5", "j": {"a": 1}, "k": "no json", "y": "AAE=", "t": "whatever"}
    ]
