"""Who outside the event loop still owes it an answer: threads, sockets, child processes.

A future tells: one that asyncio's or anyio's own locks, queues and sleeps made is settled by the loop itself, and
one that anybody else made by `loop.create_future()`, or that `run_in_executor` wrapped, is settled by whoever that
was talking to. Both aiosqlite and the store's own threads answer in this way. The threads of `anyio.to_thread` are
asked directly. Sockets that only have a callback tell nothing.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

import anyio

__all__ = ["ForeignWork"]

_ASYNCIO = Path(asyncio.__file__).parent
_ANYIO = Path(anyio.__file__).parent
#: Modules of asyncio whose futures are settled by tasks and timers of the same loop.
_INSIDE = {"base_events", "locks", "queues", "runners", "staggered", "taskgroups", "tasks", "timeouts"}
#: What waits for somebody who may never come is no answer that is owed, and this one thread is.
_EXCEPTIONS = {"sock_accept": False, "shutdown_default_executor": True}


class ForeignWork:
    """Know the futures of one event loop that others than the loop will settle.

    :param loop: the event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._futures: WeakKeyDictionary[asyncio.Future[Any], str] = WeakKeyDictionary()

    def note(self, future: asyncio.Future[Any], maker: FrameType) -> None:
        """Remember a future, if somebody else will settle it.

        :param future: a future just made.
        :param maker: the frame that asked for it.
        """
        code = maker.f_code
        if _is_foreign(code.co_filename, code.co_name):
            self._futures[future] = f"{code.co_filename}:{maker.f_lineno} in {code.co_qualname}"

    def owed(self, timers: Iterable[asyncio.Handle]) -> list[str]:
        """Tell what is owed, one text for each answer.

        :param timers: what the loop will call by itself; a future that it will settle is owed by nobody else.
        """
        waited_for = [
            (future, where)
            for future, where in list(self._futures.items())
            if not future.done() and getattr(future, "_callbacks", True)
        ]
        timed = _settled_by(timers) if waited_for else set[int]()
        found = [f"a future made at {where}" for future, where in waited_for if id(future) not in timed]
        return found + [f"the thread {thread.name!r}" for thread in self.threads() if _is_busy(thread)]

    def threads(self) -> list[threading.Thread]:
        """Give the worker threads that anyio started for this loop."""
        return [thread for thread in threading.enumerate() if getattr(thread, "loop", None) is self._loop]


@cache
def _is_foreign(file: str, function: str) -> bool:
    path = Path(file)
    inside = _ANYIO in path.parents or (_ASYNCIO in path.parents and path.stem in _INSIDE)
    return _EXCEPTIONS.get(function, not inside)


def _is_busy(thread: threading.Thread) -> bool:
    # A worker of anyio leaves its list of idle ones with its work, and is put back there on the loop. Older releases
    # (4.7) lose the one whose work was given up before it began; its queue tells that nothing is left to be done, but
    # tells it a moment after the answer is there, and so is not enough.
    if thread in getattr(thread, "idle_workers", ()) or getattr(thread, "stopping", True):
        return False
    return getattr(getattr(thread, "queue", None), "unfinished_tasks", 1) > 0


def _settled_by(timers: Iterable[asyncio.Handle]) -> set[int]:
    found: set[int] = set()
    for handle in timers:
        if not handle.cancelled():
            found.update(id(argument) for argument in getattr(handle, "_args", None) or ())
            found.add(id(getattr(getattr(handle, "_callback", None), "__self__", None)))
    return found
