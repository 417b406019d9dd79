"""How methods of the user's are called, from coroutines and from sync code; and what no cancellation cuts short."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import anyio

from ..blocking import inline, run_on_portal

__all__ = ["awaited", "call", "to_the_end"]

logger = logging.getLogger("asyncstore")

T = TypeVar("T")

#: Seconds that something gets to be done where its caller is cancelled.
_MORE_SECONDS = 10.0


async def call(method: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Await a method of the user's; from sync code, on the private loop of all sync calls, for as long as it takes.

    :param method: a coroutine function.
    :param args: its arguments.
    :raises TypeError: it is none.
    """
    if inline():
        return run_on_portal(lambda: awaited(method, *args), lock_timeout=threading.TIMEOUT_MAX)
    return await awaited(method, *args)


async def awaited(method: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Await a method of the user's on this loop.

    :param method: a coroutine function.
    :param args: its arguments.
    :raises TypeError: it is none.
    """
    answer = method(*args)
    if not isinstance(answer, Awaitable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"{getattr(method, '__qualname__', method)} is no coroutine function; write `async def`")
    return await answer


async def to_the_end(function: Callable[[], Coroutine[Any, Any, T]], *, name: str) -> T:
    """Await a coroutine that a cancellation of the caller must not cut short, nor the end of its loop.

    :param function: what is awaited, begun again where it was cancelled; it gets some seconds more from then on.
    :param name: what it does, for people.
    """
    if inline():
        return await function()
    task = asyncio.create_task(function(), name=name)
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        await _insist(task, function)
        raise
    return task.result()


async def _insist(task: asyncio.Task[T], function: Callable[[], Coroutine[Any, Any, T]]) -> None:
    # A loop that ends cancels every task, ours as well; and who cancels may do so again.
    deadline = anyio.current_time() + _MORE_SECONDS
    with anyio.CancelScope(shield=True):
        while _is_to_be_done(task) and (left := deadline - anyio.current_time()) > 0:
            if task.cancelled():
                task = asyncio.create_task(function(), name=task.get_name())
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([task], timeout=left)
    if _is_to_be_done(task):
        task.cancel()
        logger.error("%s: not done within %g s of a cancellation", task.get_name(), _MORE_SECONDS)
    else:
        task.exception()  # seen: the cancellation comes first


def _is_to_be_done(task: asyncio.Task[Any]) -> bool:
    return task.cancelled() or not task.done()
