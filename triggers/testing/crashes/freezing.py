"""An event loop that can be killed at any `await`, as a process is: nothing of it runs afterwards, ever.

A task that is cancelled, closed or collected runs its `finally` blocks. So the tasks of a killed loop are neither:
the loop stops in the middle of an iteration, what it had is kept, referenced, until the process ends, and with one
reference more than anybody holds, so that not even the interpreter's own end gets at it. Only what is the process's
is given back: sockets and threads.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable, Coroutine
from contextvars import Context
from types import TracebackType
from typing import Any, TypeVarTuple, Unpack
from weakref import WeakSet

from ..clock import VirtualClock
from ..loop import VirtualEventLoop

__all__ = ["FreezableLoop", "Killed"]

Ts = TypeVarTuple("Ts")

#: Real seconds that a thread of a killed loop gets to finish what it does.
_THREAD_SECONDS = 30.0

_graves: list[object] = []


class Killed(SystemExit):
    """Stop an event loop at once; of the two errors that asyncio lets through, the one that no test runner catches."""


class _Stepped(Coroutine[Any, Any, Any]):
    """Be a task's coroutine, and tell each time that it suspends."""

    def __init__(self, inner: Coroutine[Any, Any, Any], suspended: Callable[[], None]) -> None:
        self.inner = inner
        self._suspended = suspended

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)  # cr_running, cr_frame and the like: anyio asks for them

    def __await__(self) -> Any:
        return self.inner.__await__()

    def send(self, value: Any) -> Any:
        awaited = self.inner.send(value)
        self._suspended()
        return awaited

    def throw(self, kind: Any, value: Any = None, trace: TracebackType | None = None, /) -> Any:
        error: BaseException = kind if value is None else value  # of the three, asyncio gives the first alone
        awaited = self.inner.throw(error)
        self._suspended()
        return awaited

    def close(self) -> None:
        self.inner.close()


class FreezableLoop(VirtualEventLoop):
    """Run on virtual time, watch some tasks, and be killed.

    :param clock: the time.
    :param on_suspend: called each time that a watched task suspends; may raise `Killed`.
    """

    def __init__(self, clock: VirtualClock, on_suspend: Callable[[], None]) -> None:
        super().__init__(clock)
        self._on_suspend = on_suspend
        self._stepped: WeakSet[_Stepped] = WeakSet()
        self._watched: WeakSet[asyncio.Task[Any]] = WeakSet()
        self._dead = False
        self.set_task_factory(self._make_task)

    def _make_task(self, loop: Any, coroutine: Any, context: Context | None = None, **more: Any) -> Any:
        def suspended() -> None:
            # Asked for by the task itself, of which there is none before it is made.
            if not self._dead and asyncio.current_task(self) in self._watched:
                self._on_suspend()

        stepped = _Stepped(coroutine, suspended)
        task = asyncio.Task(stepped, loop=self, context=context, **more)
        self._stepped.add(stepped)
        if self.is_running() and asyncio.current_task(self) in self._watched:
            self._watched.add(task)
        return task

    def watch_task(self) -> None:
        """Tell of the current task from now on, and of those that it starts."""
        task = asyncio.current_task(self)
        if task is not None:
            self._watched.add(task)

    def is_watched(self) -> bool:
        """Tell whether the current task is told of."""
        return self.is_running() and asyncio.current_task(self) in self._watched

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Call from another thread; of a killed loop, never."""
        if self._dead:
            return asyncio.Handle(callback, args, self, context)
        return super().call_soon_threadsafe(callback, *args, context=context)

    def bury(self) -> None:
        """Keep what is left of a killed loop from ever running, and give back its sockets and threads."""
        self._dead = True
        own = vars(self)
        tasks = list(asyncio.all_tasks(self))
        _keep((self, tasks, list(self._stepped), list(own["_ready"]), list(own["_scheduled"])))
        self._end_threads(own.get("_default_executor"))
        self.close()

    def _end_threads(self, executor: Any) -> None:
        """Let threads finish what they are at, before the next life begins; what they wait to do is dropped."""
        threads = self._foreign.threads()
        for thread in threads:
            stop = getattr(thread, "stop", None)
            if stop is not None:
                stop()
        if executor is not None:
            executor.shutdown(wait=False, cancel_futures=True)
            threads += getattr(executor, "_threads", ())
        for thread in threads:
            thread.join(_THREAD_SECONDS)


def _keep(what: object) -> None:
    if not _graves:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(_graves))
    _graves.append(what)
