"""Group commit: what one event loop asks of an open database goes out in batches, reads and writes apart."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from ....changes import Clear, Commit, CommitResult, Put
from ....clock import from_microseconds
from ....scopes import Scope
from ..batching import Job
from ..procedures.commit import Revisions, most_revisions
from ..steps import Procedure
from .applying import apply, read_value, run, spoils
from .pending import Pending
from .stream import Outcome, Stream

if TYPE_CHECKING:
    from .opened import Opened

__all__ = ["Desk", "Work"]

#: Bytes of values in a transaction, or in a hop back, from which the rest goes separately.
MOST_BYTES = 4_000_000


@dataclass(frozen=True, slots=True)
class Work:
    """Ask for a procedure.

    :param procedure: gives it anew for every attempt.
    :param writes: it changes something.
    """

    procedure: Callable[[], Procedure[Any]]
    writes: bool = False


#: Until when the caller waits, and for what: of a key its scope and name.
Read = tuple[float, tuple[Scope, str] | Work]
Write = tuple[float, Commit | Work]


class _Reads(Stream[Read, Any]):
    """Read, all of a batch as of one moment."""

    def __init__(self, opened: Opened) -> None:
        super().__init__(opened.reader, opened.place)
        self._opened = opened

    def perform(self, raw: sqlite3.Connection, jobs: Sequence[Job[Read, Any]]) -> list[Outcome]:
        """Read the keys in turn."""
        self._opened.check_file()
        cursor = raw.cursor()
        now = self._opened.clock.microseconds()
        try:
            if len(jobs) == 1:
                return [self._read(raw, cursor, jobs[0].asked[1], now)]
            # A transaction, for to begin one costs as much as a read.
            with self._opened.transaction(raw, "BEGIN"):
                return self._read_all(raw, cursor, jobs, now)
        finally:
            cursor.close()

    def _read_all(
        self, raw: sqlite3.Connection, cursor: sqlite3.Cursor, jobs: Sequence[Job[Read, Any]], now: int
    ) -> list[Outcome]:
        outcomes: list[Outcome] = []
        size, read = 0, self._read
        for job in jobs:
            outcome = read(raw, cursor, job.asked[1], now)
            outcomes.append(outcome)
            if type(outcome) is str:
                size += len(outcome)
                if size > MOST_BYTES:
                    break
        return outcomes

    def _read(
        self, raw: sqlite3.Connection, cursor: sqlite3.Cursor, asked: tuple[Scope, str] | Work, now: int
    ) -> Outcome:
        try:
            if isinstance(asked, Work):
                return run(cursor, asked.procedure())
            return read_value(cursor, asked[0], asked[1], now)
        except Exception as error:
            if spoils(raw, error, in_transaction=False):
                raise
            return error


class _Writes(Stream[Write, Any]):
    """Write, all of a batch in one transaction."""

    def __init__(self, opened: Opened) -> None:
        super().__init__(opened.writer, opened.place)
        self._opened = opened
        self._sent: Sequence[Job[Write, Any]] = ()
        self._indexed: Pending | None = None
        self._waiting: tuple[Pending, int] | None = None

    # On the loop.

    def sending(self, jobs: Sequence[Job[Write, Any]]) -> None:
        """Remember what is on its way."""
        self._sent = jobs
        self._indexed = self._waiting = None

    def touches(self, scope: Scope, keys: Sequence[str] | None) -> bool:
        """Tell whether what is on its way, or waits for its turn, may write one of the keys."""
        # Built when a read asks, for most batches nobody does.
        if self._indexed is None:
            self._indexed = Pending()
            _index(self._indexed, self._sent)
        if self._indexed.touches(scope, keys):
            return True
        waiting = self.batcher.waiting
        if not waiting:
            return False
        pending, known = self._waiting or (Pending(), 0)
        if known < len(waiting):
            _index(pending, islice(waiting, known, None))
            self._waiting = pending, len(waiting)
        return pending.touches(scope, keys)

    # In the lane's thread.

    def perform(self, raw: sqlite3.Connection, jobs: Sequence[Job[Write, Any]]) -> list[Outcome]:
        """Make the commits in turn."""
        with self._opened.transaction(raw, "BEGIN IMMEDIATE") as transaction:
            outcomes = _Transaction(raw, self._opened.clock.microseconds(), jobs).apply()
            transaction.keep = any(not isinstance(outcome, Exception) for outcome in outcomes)
        hub = self._opened.hub
        if hub.is_watched:
            for job, outcome in zip(jobs, outcomes, strict=False):
                if isinstance(job.asked[1], Work):
                    hub.changed()
                elif not isinstance(outcome, Exception):
                    hub.committed(job.asked[1])
        return outcomes


