from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.postgres.databases import Databases
from triggers import TableTrigger
from triggers.testing import Watching

ORDERS = "CREATE TABLE orders (id {int} PRIMARY KEY, at {moment}, what text)"


class Database:
    """A database with tables to be watched."""

    kind: str
    url: str

    def __init__(self) -> None:
        self.name = "orders"

    def run(self, statement: str) -> list[Any]:
        raise NotImplementedError

    def make(self, statement: str = ORDERS) -> None:
        names = {"int": "integer", "moment": "datetime" if self.kind == "sqlite" else "timestamp"}
        self.run(statement.format(**names))

    def insert(self, *ids: int, at: str = "2026-01-01 00:00:00", what: str = "x") -> None:
        rows = ", ".join(f"({number}, '{at}', '{what}')" for number in ids)
        self.run(f"INSERT INTO {self.name} (id, at, what) VALUES {rows}")

    def trigger(self, **options: Any) -> TableTrigger:
        return TableTrigger(self.url, self.name, **options)


class SqliteFile(Database):
    kind = "sqlite"

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.url = f"sqlite:///{path}"

    def run(self, statement: str) -> list[Any]:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            return connection.execute(statement).fetchall()


class PostgresDatabase(Database):
    kind = "postgresql"

    def __init__(self, databases: Databases, url: str) -> None:
        super().__init__()
        self.databases, self.url = databases, url
        self._database = url.rpartition("/")[2].partition("?")[0]

    def run(self, statement: str) -> list[Any]:
        return [tuple(row.values()) for row in self.databases.fetch(statement, database=self._database)]


def ids(watching: Watching) -> list[int]:
    return [payload["id"] for payload in watching.payloads]


def in_chunks(numbers: Sequence[int], size: int = 500) -> list[Sequence[int]]:
    return [numbers[at : at + size] for at in range(0, len(numbers), size)]


async def told(watching: Watching, count: int) -> None:
    """Wait for so many events; an hour of virtual time is dear where each look asks a database."""
    await watching.wait_events(count, timeout=3600)
