"""Group commit: what one event loop asks of an open database goes out in batches, reads and writes apart."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from ....changes import Commit, CommitResult, Put
from ....clock import from_microseconds
from ....scopes import Scope
from ...watching import WatchHub
from ..batching import Job
from ..pending import Pending
from ..procedures import state
from ..procedures.commit import Revisions, most_revisions
from ..steps import Now, Procedure
from .applying import apply, plain_put, read_value, run, spoils, write_put
from .stream import Outcome, Stream

if TYPE_CHECKING:
    from .opened import Opened

__all__ = ["Desk", "Work"]

#: Bytes of values in a transaction, or in a hop back, from which the rest goes separately.
MOST_BYTES = 4_000_000
#: Seconds after which a procedure is the last of its batch: what is quick does not wait for more of what is slow.
MOST_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class Work:
    """Ask for a procedure.

    :param procedure: gives it anew for every attempt.
    :param writes: it changes something.
    :param quiet: nobody waits for what it changes.
    """

    procedure: Callable[[], Procedure[Any]]
    writes: bool = False
    quiet: bool = False


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
                return [_read(cursor, jobs[0].asked[1], now)]
            # A transaction of its own costs every statement as much as its work.
            return self._opened.transaction(raw, "BEGIN", _read_all, raw, cursor, jobs, now)
        finally:
            cursor.close()


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

    def touches(self, scope: Scope, key: str | None) -> bool:
        """Tell whether what is on its way, or waits for its turn, may write a key, or for None anything."""
        # Built when a read asks, for most batches nobody does.
        if self._indexed is None:
            self._indexed = Pending()
            _index(self._indexed, self._sent)
        if self._indexed.touches(scope, key):
            return True
        waiting = self.batcher.waiting
        if not waiting:
            return False
        pending, known = self._waiting or (Pending(), 0)
        if known < len(waiting):
            _index(pending, islice(waiting, known, None))
            self._waiting = pending, len(waiting)
        return pending.touches(scope, key)

    def settled(self) -> None:
        """Forget what is done."""
        self._sent = ()
        self._indexed = None

    # In the lane's thread.

    def perform(self, raw: sqlite3.Connection, jobs: Sequence[Job[Write, Any]]) -> list[Outcome]:
        """Make the commits in turn."""
        if len(jobs) == 1 and isinstance(jobs[0].asked[1], Commit):
            return [self._opened.commit(raw, jobs[0].asked[1])]
        transaction = self._opened.transaction
        with closing(raw.cursor()) as cursor:
            if any(_changes(job) for job in jobs):
                with self._opened.queue.turn():
                    outcomes = transaction(raw, "BEGIN IMMEDIATE", self._apply_all, raw, cursor, jobs)
            else:
                outcomes = transaction(raw, "BEGIN", self._apply_all, raw, cursor, jobs)
        hub = self._opened.hub
        if hub.is_watched:
            for job, outcome in zip(jobs, outcomes, strict=False):
                if not isinstance(outcome, Exception):
                    _tell(hub, job.asked[1])
        return outcomes

    def _apply_all(
        self, raw: sqlite3.Connection, cursor: sqlite3.Cursor, jobs: Sequence[Job[Write, Any]]
    ) -> list[Outcome]:
        now = self._opened.clock.microseconds()  # under the lock, so that later versions have later times
        return _Batch(raw, cursor, now, jobs, self._opened.revisions).apply()

    def innocent(self, job: Job[Write, Any]) -> bool:
        """Tell whether a job cannot be the cause of a failure, nor need suffer from it: it only reads."""
        return not _changes(job)


def _index(pending: Pending, jobs: Iterable[Job[Write, Any]]) -> None:
    for job in jobs:
        asked = job.asked[1]
        if isinstance(asked, Commit):
            try:
                pending.add(asked)
            except Exception:  # what is no commit at all; it will be refused
                pending.add_everything()
        elif asked.writes:
            pending.add_everything()


def _changes(job: Job[Write, Any]) -> bool:
    asked = job.asked[1]
    return isinstance(asked, Commit) or asked.writes


def _tell(hub: WatchHub, asked: Commit | Work) -> None:
    if isinstance(asked, Commit):
        hub.committed(asked)
    elif asked.writes and not asked.quiet:
        hub.changed()


def _read(cursor: sqlite3.Cursor, asked: tuple[Scope, str] | Work, now: int) -> Outcome:
    return run(cursor, asked.procedure()) if isinstance(asked, Work) else read_value(cursor, asked[0], asked[1], now)


def _read_all(
    raw: sqlite3.Connection, cursor: sqlite3.Cursor, jobs: Sequence[Job[Read, Any]], now: int
) -> list[Outcome]:
    outcomes: list[Outcome] = []
    size, end = 0, time.monotonic() + MOST_SECONDS
    for job in jobs:
        try:
            outcome = _read(cursor, job.asked[1], now)
        except Exception as error:
            if spoils(raw, error):
                raise
            outcome = error
        outcomes.append(outcome)
        if type(outcome) is str:
            size += len(outcome)
            if size > MOST_BYTES:
                break
        elif type(job.asked[1]) is Work and time.monotonic() > end:
            break
    return outcomes


class _Batch:
    """Apply several commits in one transaction, each wholly or not at all."""

    def __init__(
        self,
        raw: sqlite3.Connection,
        cursor: sqlite3.Cursor,
        now: int,
        jobs: Sequence[Job[Write, Any]],
        revisions: Revisions,
    ) -> None:
        self._raw = raw
        self._cursor = cursor
        self._now = now
        self._at = from_microseconds(now)
        self._jobs = jobs
        asked = [job.asked[1] for job in jobs]
        self._revisions = revisions
        revisions.begin(sum(most_revisions(each) for each in asked if isinstance(each, Commit)))

    def apply(self) -> list[Outcome]:
        """Give the outcomes of as many as fit."""
        if len(self._jobs) == 1:
            return [self._do(self._jobs[0].asked[1])]
        outcomes: list[Outcome] = []
        size, end = 0, time.monotonic() + MOST_SECONDS
        for job in self._jobs:
            asked = job.asked[1]
            try:
                put = plain_put(asked) if isinstance(asked, Commit) else None
            except Exception as error:
                outcomes.append(error)
                continue
            if put is not None:
                outcomes.append(self._put(put, asked.updated_by))  # type: ignore[union-attr]
                size += _size(asked)
            else:
                outcomes.append(self._one(asked))
                size += _size(asked)
                if time.monotonic() > end:
                    break
            if size > MOST_BYTES:
                break
        return outcomes

    def _reserve(self) -> None:
        if not self._revisions.reserved:
            run(self._cursor, self._revisions.reserve())

    def _put(self, put: Put, updated_by: str | None) -> Outcome:
        try:
            self._reserve()
            version = self._revisions.next()
            write_put(self._cursor, put, version, self._now, updated_by)
        except Exception as error:
            if spoils(self._raw, error):
                raise
            return error
        return CommitResult(self._at, (version,))

    def _one(self, asked: Commit | Work) -> Outcome:
        # One change leaves nothing behind where it fails; several need a place to go back to.
        several = asked.writes if isinstance(asked, Work) else most_revisions(asked) > 1 or bool(asked.events)
        execute = self._cursor.execute
        if several:
            if isinstance(asked, Commit):
                self._reserve()  # not to be undone
            execute("SAVEPOINT one")
        try:
            outcome = self._do(asked)
        except Exception as error:
            if spoils(self._raw, error):
                raise
            if several:
                execute("ROLLBACK TO one")
                execute("RELEASE one")
            return error
        if several:
            execute("RELEASE one")
        return outcome

    def _do(self, asked: Commit | Work) -> Outcome:
        if isinstance(asked, Work):
            return run(self._cursor, asked.procedure())
        return apply(self._cursor, asked, self._now, self._at, self._revisions)


def _size(asked: Commit | Work) -> int:
    if isinstance(asked, Work):
        return 0
    values = (change.value for change in asked.changes if isinstance(change, Put))
    return sum(len(value) for value in values if type(value) is str)  # what is none will be refused


class Desk:
    """Take what one event loop asks, and send it in batches.

    :param opened: the database.
    """

    def __init__(self, opened: Opened) -> None:
        self._lock_timeout = opened.writer.lock_timeout
        self._reads = _Reads(opened)
        self._writes = _Writes(opened)
        self._read = self._reads.batcher.submit
        self._write = self._writes.batcher.submit
        self._writer = self._writes.batcher

    def get(self, scope: Scope, key: str, now: Now) -> asyncio.Future[str | None]:
        """Read the text of one key, behind the writes of it."""
        deadline = time.monotonic() + self._lock_timeout
        if self._writer.idle or not self._writes.touches(scope, key):
            return self._read((deadline, (scope, key)))
        return self._write((deadline, Work(partial(state.get, scope, key, now))))

    def read(self, scope: Scope, work: Work) -> asyncio.Future[Any]:
        """Read something of a scope, behind the writes of it."""
        deadline = time.monotonic() + self._lock_timeout
        if self._writer.idle or not self._writes.touches(scope, None):
            return self._read((deadline, work))
        return self._write((deadline, work))

    def write(self, asked: Commit | Work) -> asyncio.Future[Any]:
        """Change something, behind what was asked before."""
        return self._write((time.monotonic() + self._lock_timeout, asked))
