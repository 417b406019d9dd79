"""How sync code calls coroutines of the store.

Every operation is written once, as a coroutine. A sync twin runs that coroutine on the calling thread with
`drive`, and where the coroutine reaches a backend the backend answers without suspending: our own backends do
the work in place, under their lock; a custom backend that knows only coroutines is awaited on a private event
loop in a thread (`run_on_portal`). So nothing depends on the caller's loop, which may be the one that is blocked.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import warnings
from asyncio import _get_running_loop  # pyright: ignore[reportPrivateUsage]  # documented; avoids an exception
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from .errors import BlockingCallWarning, StoreBusyError

__all__ = ["drive", "inline", "outside", "run_on_portal", "warn_if_on_loop"]

T = TypeVar("T")

_PACKAGES = tuple(str(Path(__file__).parent.parent / name) + os.sep for name in ("asyncstore", "triggers"))


class _Mode(threading.local):
    # A thread-local, not a context variable: tasks that start meanwhile must not inherit it.
    inline = False


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
def outside() -> Iterator[None]:
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
    frame = sys._getframe(1)
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


class _Portal:
    """Own one event loop in a daemon thread, started at the first call and stopped at exit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._portal: BlockingPortal | None = None
        self._context: AbstractContextManager[BlockingPortal] | None = None

    def get(self) -> BlockingPortal:
        with self._lock:
            if self._portal is None:
                self._context = start_blocking_portal("asyncio", name="asyncstore sync calls")
                self._portal = self._context.__enter__()
            return self._portal

    def stop(self) -> None:
        with self._lock:
            context, self._context, self._portal = self._context, None, None
        if context is not None:
            context.__exit__(None, None, None)

    def forget(self) -> None:
        # After a fork the thread exists in the parent only.
        self.__init__()  # type: ignore[misc]


_portal = _Portal()
atexit.register(_portal.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_portal.forget)


def run_on_portal(function: Callable[..., Awaitable[T]], *args: object, lock_timeout: float) -> T:
    """Await a coroutine function on the private loop and block until it is done.

    :param function: called on the private loop.
    :param args: its arguments.
    :param lock_timeout: seconds to wait at most where the calling thread runs an event loop: that loop might hold
        what the coroutine waits for.
    :return: what the coroutine returns.
    :raises StoreBusyError: the time is over; the coroutine was cancelled.
    """
    warn_if_on_loop()
    on_loop = _get_running_loop() is not None
    future = _portal.get().start_task_soon(function, *args)
    try:
        return future.result(lock_timeout if on_loop else None)
    except FutureTimeoutError:
        if future.done():  # raised by the coroutine itself
            raise
        future.cancel()
        raise StoreBusyError(
            f"the call did not end within {lock_timeout:g} s; the blocked event loop may hold what it waits for. "
            "Await the async twin instead"
        ) from None
