"""The ways of calling one operation, so that each test is written once."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from functools import partial
from typing import Any, ParamSpec, TypeVar, cast

import anyio.to_thread

from ..abc import BaseStoreBackend
from ..errors import BlockingCallWarning

__all__ = ["Caller", "Way"]

P = ParamSpec("P")
T = TypeVar("T")

#: How many sync calls may be under way at once in plain threads.
THREADS = 8


class Way(StrEnum):
    """Say how operations are called."""

    #: The coroutine is awaited.
    AWAIT = "await"
    #: The sync twin runs in a thread that knows nothing of a loop.
    THREAD = "thread"
    #: The sync twin runs in a worker thread of anyio.
    WORKER = "worker"
    #: The sync twin runs on the thread of the event loop, inside a coroutine.
    LOOP = "loop"


class Caller:
    """Call operations in one of the ways.

    `await call(state.aget, "key")` awaits `state.aget("key")`, or runs `state.get("key")` where the way says so. An
    operation of a backend that has no sync twin is run by the backend's `run_blocking`; any other that has none is
    awaited.

    :param way: how.
    """

    def __init__(self, way: Way) -> None:
        self.way = way
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="plain")

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown()

    async def __call__(self, operation: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call an operation.

        :param operation: a bound method that gives an awaitable.
        :return: what it returns.
        """
        twin = None if self.way is Way.AWAIT else _twin(operation)
        if twin is None:
            return await operation(*args, **kwargs)
        work: Callable[[], T] = partial(twin, *args, **kwargs)
        if self.way is Way.WORKER:
            return await anyio.to_thread.run_sync(work)
        if self.way is Way.THREAD:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BlockingCallWarning)
            return work()


def _twin(operation: Callable[..., Awaitable[Any]]) -> Callable[..., Any] | None:
    owner: object = getattr(operation, "__self__", None)
    name: str = getattr(operation, "__name__", "")
    name = name.replace("__a", "__", 1) if name.startswith("__a") else name.removeprefix("a")
    if isinstance(owner, BaseStoreBackend) and name not in {"get", "set", "delete", "clear", "__enter__", "__exit__"}:
        backend = owner
        return lambda *args, **kwargs: backend.run_blocking(partial(operation, *args, **kwargs))
    return cast("Callable[..., Any] | None", getattr(owner, name, None)) if name != operation.__name__ else None
