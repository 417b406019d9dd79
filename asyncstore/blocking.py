"""How sync code calls coroutines of the store, and how coroutines call what blocks.

Every operation is written once, as a coroutine. A sync twin runs that coroutine on the calling thread with
`drive`, and where the coroutine reaches a backend the backend answers without suspending: our own backends do
the work in place, under their lock; a custom backend that knows only coroutines is awaited on a private event
loop in a thread (`run_on_portal`). So nothing depends on the caller's loop, which may be the one that is blocked.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import sys
import threading
import warnings
from asyncio import _get_running_loop  # pyright: ignore[reportPrivateUsage]  # documented; avoids an exception
from collections.abc import Awaitable, Callable, Coroutine, Generator
from concurrent.futures import CancelledError as FutureCancelledError
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import anyio

from .errors import BlockingCallWarning, StoreBusyError, StoreError

__all__ = ["deliver", "drive", "in_thread", "inline", "outside", "run_on_portal", "warn_if_on_loop"]

T = TypeVar("T")

_PACKAGES = tuple(str(Path(__file__).parent.parent / name) + os.sep for name in ("asyncstore", "triggers"))


class _Mode(threading.local):
    # A thread-local, not a context variable: tasks that start meanwhile must not inherit it.
    inline = False
    #: How many private loops wait for each other above this thread.
    depth = 0


_mode = _Mode()


def inline() -> bool:
    """Tell whether this thread is inside `drive`, where nothing may suspend."""
    return _mode.inline


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine of the store to its end on this thread, without an event loop.

    Warns, once per call site, where the thread runs an event loop, which is blocked meanwhile.

    :param coroutine: one that asks `inline` before it would suspend.
    :return: what it returns.
    """
    before = _mode.inline
    if not before:
        try:
            warn_if_on_loop()
        except Warning:
            coroutine.close()
            raise
    _mode.inline = True
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        _mode.inline = before
    coroutine.close()
    raise RuntimeError(f"{coroutine!r} suspended where only a blocking call was possible")


@contextmanager
def outside() -> Generator[None]:
    """Leave `drive` for a while, to call code of the user that may start a loop of its own."""
    before = _mode.inline
    _mode.inline = False
    try:
        yield
    finally:
        _mode.inline = before


_warned: set[tuple[str, int]] = set()


def warn_if_on_loop() -> None:
    """Warn with `BlockingCallWarning`, once per call site, where this thread runs an event loop."""
    if _get_running_loop() is None:
        return
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]  # there is no other way
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGES):
        frame = frame.f_back
    site = (frame.f_code.co_filename, frame.f_lineno)
    if site in _warned:
        return
    warnings.warn_explicit(
        "a sync store call blocks the event loop for a round trip to the database; inside a coroutine await the "
        "async twin (the same name with an `a` before it)",
        BlockingCallWarning,
        *site,
        module=frame.f_globals.get("__name__"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )
    _warned.add(site)


# From a coroutine into a thread.


def deliver(future: asyncio.Future[T], function: Callable[[], T]) -> None:
    """Call a function in a thread that is not the loop's, and give a future of that loop what it returns or raises.

    Nothing happens where nobody waits any more: the future was cancelled, or its loop is closed.

    :param future: of any loop.
    :param function: what to call.
    """
    result, error = _attempt(function)
    with contextlib.suppress(RuntimeError):
        future.get_loop().call_soon_threadsafe(_settle, future, result, error)


def _attempt(function: Callable[[], T]) -> tuple[T | None, BaseException | None]:
    # Apart from `deliver`: an error refers to the frames it came through, which must not refer to it.
    try:
        return function(), None
    except BaseException as error:
        return None, error


def _settle(future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


async def in_thread(function: Callable[[], T], *, name: str, cancelled: Callable[[], object] | None = None) -> T:
    """Run a function that blocks in a thread of its own, always to its end.

    For what opens and closes: a cancellation is raised when the function has ended, so that nothing is left half
    open behind the caller's back. The function must end by itself in bounded time. It does not need the loop's
    executor, which may be full or shut down.

    :param function: what to call.
    :param name: of the thread.
    :param cancelled: called on a cancellation, to make the function end sooner.
    :return: what the function returns.
    """
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    threading.Thread(target=deliver, args=(future, function), name=name, daemon=True).start()
    try:
        await asyncio.wait([future])
    except asyncio.CancelledError:
        if cancelled is not None:
            cancelled()
        with anyio.CancelScope(shield=True):  # else a cancelled scope would cancel the waits below again and again
            while not future.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([future])
        future.exception()  # seen: the cancellation comes first
        raise
    return future.result()


# From sync code to a coroutine that needs a loop.


class _PrivateLoop:
    """Run an event loop in a daemon thread."""

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._stopping = False
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"asyncstore sync calls {depth}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        _mode.depth = self._depth + 1
        while not self._stopping:
            # A task that raises SystemExit stops the loop; those who wait for other tasks need it still.
            with contextlib.suppress(KeyboardInterrupt, SystemExit):
                self.loop.run_forever()

    def stop(self, patience: float) -> None:
        """Cancel what still runs, and give it so many seconds to end."""
        with contextlib.suppress(RuntimeError):
            asyncio.run_coroutine_threadsafe(self._end(patience), self.loop)
        self._thread.join(2 * patience)
        if not self._thread.is_alive():
            self.loop.close()

    async def _end(self, patience: float) -> None:
        self._stopping = True
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=patience)
        self.loop.call_soon(self.loop.stop)


class _Portal:
    """Own the private loops, started at the first call and stopped at exit.

    One is enough for everybody, except for calls from that loop's own thread: a backend whose coroutine makes a
    sync call of another such backend. They get the next one.
    """

    #: Seconds that what still runs gets at exit.
    PATIENCE = 1.0

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loops: list[_PrivateLoop] = []
        self._left_behind: list[_PrivateLoop] = []

    def get(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            while len(self._loops) <= _mode.depth:
                self._loops.append(_PrivateLoop(len(self._loops)))
            return self._loops[_mode.depth].loop

    def stop(self) -> None:
        with self._lock:
            loops, self._loops = self._loops, []
        for each in loops:
            each.stop(self.PATIENCE)

    def forget(self) -> None:
        # After a fork the threads exist in the parent only, while the selectors are shared with it: closing the
        # loops here would break the parent's. So they are kept, and never closed.
        self._left_behind += self._loops
        self._loops = []
        self._lock = threading.Lock()
        _mode.depth = 0


_portal = _Portal()
atexit.register(_portal.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_portal.forget)


async def _outcome(
    function: Callable[..., Awaitable[T]], args: tuple[object, ...]
) -> tuple[T | None, BaseException | None]:
    # Errors go as results: SystemExit would stop the loop, and TimeoutError could be taken for that of the wait.
    try:
        return await function(*args), None
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        return None, error


def run_on_portal(function: Callable[..., Awaitable[T]], *args: object, lock_timeout: float) -> T:
    """Await a coroutine function on the private loop and block until it is done.

    :param function: called on the private loop.
    :param args: its arguments.
    :param lock_timeout: seconds to wait at most where the calling thread runs an event loop: that loop might hold
        what the coroutine waits for.
    :return: what the coroutine returns.
    :raises StoreBusyError: the time is over; the coroutine was cancelled.
    :raises StoreError: the coroutine was cancelled by something else.
    """
    warn_if_on_loop()
    on_loop = _get_running_loop() is not None
    loop = _portal.get()
    future: Future[tuple[T | None, BaseException | None]] | None = None
    try:
        future = asyncio.run_coroutine_threadsafe(_outcome(function, args), loop)
        try:
            result, error = future.result(lock_timeout if on_loop else None)
        except FutureTimeoutError:
            if future.cancel():
                raise StoreBusyError(
                    f"the call did not end within {lock_timeout:g} s; the blocked event loop may hold what it waits "
                    "for. Await the async twin instead"
                ) from None
            result, error = future.result()  # it ended in this instant
    except FutureCancelledError:
        raise StoreError("the call was cancelled before it ended; whether it happened is not known") from None
    finally:
        if future is not None:
            future.cancel()  # where the wait was interrupted
    if error is not None:
        raise error
    return cast("T", result)
