"""An open SQLite database: a lane for writes, one for reads, and a desk for each event loop."""

from __future__ import annotations

import os
import sqlite3
import weakref
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from functools import partial
from typing import TypeVar

from ....changes import Commit, CommitResult
from ....clock import Clock, from_microseconds
from ....errors import StoreUnavailableError
from ...watching import WatchHub
from ..batching import PerLoop
from ..database import Then
from ..procedures.commit import Revisions, most_revisions
from . import migrate
from .applying import apply, roll_back, write_alone
from .desk import Desk
from .errors import MOVED, mapped
from .lane import Lane
from .queue import Queue
from .target import Target, connect

__all__ = ["Opened"]

T = TypeVar("T")


_all: weakref.WeakSet[Opened] = weakref.WeakSet()


def _forget_desks() -> None:
    # After a fork, what is on its way there is so in the parent only. New desks find out that the lanes are foreign.
    for each in _all:
        each.desks = PerLoop(partial(Desk, each))
        each.queue.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_desks)


class Opened:
    """Hold the lanes of an open database.

    In WAL mode a reader never waits for a writer, so reads have a connection and a thread of their own. In memory
    there is one connection for both: another one would be another database.

    :param target: the database.
    :param lock_timeout: seconds to wait at most for a lock.
    :param durability: "full" or "normal".
    :param clock: tells when values expire.
    :param hub: who is to hear of commits.
    :param patience: for opening.
    :ivar revisions: those of the writing connection; whoever holds its lane may use them.
    :ivar queue: where processes that write take turns.
    """

    def __init__(
        self,
        target: Target,
        *,
        lock_timeout: float,
        durability: str,
        clock: Clock,
        hub: WatchHub,
        patience: migrate.Patience,
    ) -> None:
        self._target = target
        self.place = str(target)
        self.clock = clock
        self.hub = hub
        self.revisions = Revisions()
        self.queue = Queue(target.path)
        self.desks = PerLoop(partial(Desk, self))
        _all.add(self)
        with ExitStack() as undo, mapped(self.place):
            writer = patience(lambda: connect(target, durability=durability))
            undo.callback(writer.close)
            migrate.prepare(writer, patience)
            self._identity = target.identity()
            self.writer = Lane(writer, self.place, lock_timeout, name="asyncstore writer")
            undo.callback(self.writer.close)
            self.reader = self.writer
            if target.path is not None:
                reader = patience(lambda: connect(target, durability=durability, read_only=True, create=False))
                self.reader = Lane(reader, self.place, lock_timeout, name="asyncstore reader")
            undo.pop_all()

    def transaction(self, raw: sqlite3.Connection, begin: str, function: Callable[..., T], *args: object) -> T:
        """Call a function inside a transaction; nothing stays of it where it raises.

        :param raw: the connection.
        :param begin: how it begins.
        :param function: called with the arguments.
        """
        self.check_file()
        roll_back(raw)  # what an interrupt during a rollback may have left
        try:
            raw.execute(begin)
            result = function(*args)
            raw.execute("COMMIT")
        except BaseException:
            if begin != "BEGIN":  # else it is perhaps the reader's, and they are not its to forget
                self.revisions.forget()
            with suppress(sqlite3.Error):  # the first error says more
                roll_back(raw)
            raise
        return result

    def commit(self, raw: sqlite3.Connection, commit: Commit) -> CommitResult:
        """Make a commit that is alone in its transaction, and wake who watches."""
        self.check_file()
        roll_back(raw)
        with self.queue.turn(), closing(raw.cursor()) as cursor:
            now = self.clock.microseconds()
            version = write_alone(cursor, commit, now, self.revisions)
            if version is None:
                result = self.transaction(raw, "BEGIN IMMEDIATE", self._apply, cursor, commit)
            else:
                result = CommitResult(from_microseconds(now), (version,))
        if self.hub.is_watched:
            self.hub.committed(commit)
        return result

    def _apply(self, cursor: sqlite3.Cursor, commit: Commit) -> CommitResult:
        now = self.clock.microseconds()  # under the lock, so that later versions have later times
        self.revisions.begin(most_revisions(commit))
        return apply(cursor, commit, now, from_microseconds(now), self.revisions)

    def select(self, raw: sqlite3.Connection, function: Callable[..., T], *args: object) -> T:
        """Call a function that only reads."""
        self.check_file()
        return function(raw, *args)

    def change(self, raw: sqlite3.Connection, then: Then | None, function: Callable[..., T], *args: object) -> T:
        """Call a function inside a transaction, and another one after its commit."""
        # IMMEDIATE: a transaction that reads first and asks for the write lock later may be refused half-way.
        with self.queue.turn():
            result = self.transaction(raw, "BEGIN IMMEDIATE", function, raw, *args)
        if then is not None:
            then()
        return result

    def check_file(self) -> None:
        """Refuse to go on in a file that nobody can find any more; SQLite looks for itself only without a WAL.

        :raises StoreUnavailableError: it was deleted or replaced.
        """
        if self._identity is not None and self._target.identity() != self._identity:
            raise StoreUnavailableError(f"{self.place} {MOVED}")

    def close(self) -> None:
        """Close the connections, once what has begun is done."""
        self.desks.clear()
        self.reader.close()
        if self.writer is not self.reader:
            self.writer.close()
        if not self.writer.is_foreign:
            self.queue.close()
