"""What the tests of the metastore share: connections that can be watched and interrupted, and other processes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest

from asyncstore import Commit, CommitResult, MetastoreBackend, Put, Scope, TaskScope
from asyncstore.backends.metastore.sqlite import target

TASK = TaskScope("dag", "run", "task")
#: Seconds that something which must happen gets; only a failing test waits so long.
PATIENCE = 30.0

_VERB = re.compile(
    r"(BEGIN IMMEDIATE|BEGIN|COMMIT|ROLLBACK|PRAGMA \w+|SELECT|INSERT|UPDATE|DELETE)(?:.*?asyncstore_(\w+))?", re.DOTALL
)


def brief(statement: str) -> str:
    """Give the verb of a statement, and the table where it writes."""
    found = _VERB.match(statement.strip())
    assert found, statement
    verb, table = found.groups()
    return f"{verb} {table}" if verb in {"INSERT", "UPDATE", "DELETE"} else verb


class _Cursor(sqlite3.Cursor):
    """A cursor that tells its connection of each statement."""

    def execute(self, sql: str, parameters: Any = ()) -> Self:
        raw = self.connection
        assert isinstance(raw, Connection)
        raw.running = None
        if raw.before is not None:
            raw.before(sql)
        cursor = super().execute(sql, parameters)
        if raw.after is not None:
            raw.after(sql)
        return cursor


class Connection(sqlite3.Connection):
    """A connection that tells of each statement, and lets a test step in."""

    #: Called before and after each statement, in the thread that runs it.
    before: Callable[[str], object] | None = None
    after: Callable[[str], object] | None = None
    running: str | None = None
    closed = False

    def cursor(self, factory: Any = None) -> sqlite3.Cursor:  # type: ignore[override]
        return super().cursor(_Cursor)

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        return self.cursor().execute(sql, parameters)

    def close(self) -> None:
        super().close()
        self.closed = True


class Connections:
    """Every connection that the metastore opened: what ran on them and in which thread."""

    def __init__(self) -> None:
        self.opened: list[Connection] = []
        self.statements: list[str] = []
        self.threads: set[int] = set()

    def prepare(self, raw: Connection) -> object:
        """Do something with each connection as it is opened; to be replaced."""

    def connect(self, *args: Any, **options: Any) -> sqlite3.Connection:
        raw = sqlite3.connect(*args, **options, factory=Connection)
        assert isinstance(raw, Connection)
        raw.set_trace_callback(partial(self._note, raw))
        self.opened.append(raw)
        self.prepare(raw)
        return raw

    def _note(self, raw: Connection, statement: str) -> None:
        if statement == raw.running:
            return  # SQLite tells of a statement again for each row that goes by a foreign key
        raw.running = statement
        self.statements.append(statement)
        self.threads.add(threading.get_ident())

    @contextmanager
    def counting(self) -> Generator[list[str]]:
        """Give the statements of the block, in brief, at its end."""
        self.statements.clear()
        self.threads.clear()
        found: list[str] = []
        yield found
        found += [brief(statement) for statement in self.statements]

    def in_transaction(self) -> bool:
        return any(raw.in_transaction for raw in self.opened if not raw.closed)

    def all_closed(self) -> bool:
        return all(raw.closed for raw in self.opened)


class _Sqlite3:
    """The module `sqlite3`, but for one function."""

    def __init__(self, connect: Callable[..., sqlite3.Connection]) -> None:
        self.connect = connect

    def __getattr__(self, name: str) -> Any:
        return getattr(sqlite3, name)


def watch_connections(monkeypatch: pytest.MonkeyPatch) -> Connections:
    """Have the metastore open its connections here."""
    connections = Connections()
    monkeypatch.setattr(target, "sqlite3", _Sqlite3(connections.connect))
    return connections


class Child:
    """Another process that runs a script, and speaks with the test line by line.

    The script finds `say(value)`, which sends JSON, and `hear()`, which waits for a line.
    """

    HEAD = """
import json, sys
def say(value): print(json.dumps(value), flush=True)
def hear(): return json.loads(sys.stdin.readline())
"""

    def __init__(self, script: str, *arguments: str, options: tuple[str, ...] = ()) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *options, "-c", self.HEAD + script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent.parent,
            env={**os.environ, "PYTHONHASHSEED": "0"},
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # with what it forked
        self.process.communicate()

    def say(self, value: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(value) + "\n")
        self.process.stdin.flush()

    def hear(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the child ended: {self.process.communicate(timeout=PATIENCE)[1]}")
        return json.loads(line)

    def end(self) -> tuple[int, str, str]:
        """Wait for the end; gives the exit code and what was printed."""
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err


@contextmanager
def locked(path: Path) -> Generator[sqlite3.Connection]:
    """Hold the write lock of a database file."""
    raw = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        raw.execute("BEGIN IMMEDIATE")
        yield raw
    finally:
        raw.close()


async def at_once(*calls: Awaitable[Any]) -> list[Any]:
    """Make calls in one turn of the loop, so that all but the first share a batch; gives results and errors."""
    return await asyncio.gather(*calls, return_exceptions=True)


def put(backend: MetastoreBackend, key: str, value: str = "1", scope: Scope = TASK, **rest: Any) -> Awaitable[Any]:
    return backend.acommit(Commit((Put(scope, key, value, **rest),)))


def made(outcomes: list[Any]) -> list[bool]:
    """Tell of each outcome whether it is that of a commit."""
    return [isinstance(outcome, CommitResult) for outcome in outcomes]
