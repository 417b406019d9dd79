"""Taking turns: processes that write queue for SQLite's write lock at a file lock of their own.

Who finds SQLite busy sleeps longer and longer, and whoever comes later may well be first. At this lock everybody looks
equally often. It is a courtesy: who waited for a while goes on without it, and SQLite's own lock decides.
"""

from __future__ import annotations

import os
import sys
import time
import weakref
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["Queue"]

#: Seconds between two looks.
_PAUSE = 0.0002
#: Seconds after which the lock of somebody who was stopped or forgot it is left alone.
_COURTESY = 0.1
#: Seconds for which the queue is left alone then, and where it cannot be used.
_ALONE = 1.0

if sys.platform == "win32":

    def _lock(handle: int) -> bool:
        return True

    def _unlock(handle: int) -> None:
        pass

else:
    from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock

    def _lock(handle: int) -> bool:
        try:
            flock(handle, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(handle: int) -> None:
        flock(handle, LOCK_UN)


class Queue:
    """Queue with other processes, and with other stores of this one.

    The lock is at a file beside the database, which goes when the last store is closed. A lock on the database itself
    would not do: where a process closes a file, it loses SQLite's locks on it.

    :param path: the database file; None where nobody else can write.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = None if path is None or sys.platform == "win32" else f"{path}-queue"
        self._handle: int | None = None
        self._alone_until = 0.0
        self._leave: weakref.finalize[..., Queue] | None = None

    @contextmanager
    def turn(self) -> Generator[None]:
        """Be first, or have waited for long enough."""
        held = self._enter()
        try:
            yield
        finally:
            if held is not None:
                _unlock(held)

    def _enter(self) -> int | None:
        # Nothing that goes wrong here matters: the folder may be read-only, the file system may have no locks.
        if self._path is None or (self._alone_until and time.monotonic() < self._alone_until):
            return None
        try:
            handle = self._handle
            if handle is None or not os.fstat(handle).st_nlink:  # another store removed it with its end
                handle = self._open(self._path)
            end = 0.0
            while not _lock(handle):
                now = time.monotonic()
                end = end or now + _COURTESY
                if now >= end:
                    self._alone_until = now + _ALONE
                    return None
                time.sleep(_PAUSE)
        except OSError:
            self._alone_until = time.monotonic() + _ALONE
            return None
        return handle

    def _open(self, path: str) -> int:
        self.close()
        handle = self._handle = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._leave = weakref.finalize(self, _leave, handle, path)
        return handle

    def close(self) -> None:
        """Remove the file, which those who still need it will make anew."""
        self._handle = None
        if self._leave is not None:
            self._leave()

    def forget(self) -> None:
        """Leave the file to the process that this one was forked from; here it would hold the lock for it."""
        self._path = None
        if self._handle is not None and self._leave is not None and self._leave.detach() is not None:
            os.close(self._handle)
        self._handle = None


def _leave(handle: int, path: str) -> None:
    with suppress(OSError):
        os.unlink(path)  # noqa: PTH108 - also called while the interpreter ends
    with suppress(OSError):
        os.close(handle)
