"""Running a coroutine of the driver's without a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

__all__ = ["start"]

T = TypeVar("T")


class _Run:
    """Drive a coroutine from the callbacks of the futures it awaits.

    A task begins at the next turn of the loop and ends one turn before its waiter hears of it; to a lone read that is a
    tenth of the whole. The coroutine must await futures only, and not ask which task it runs in. Nobody can cancel it,
    which is what a batch of many callers needs.
    """

    __slots__ = ("_done", "_send")

    def __init__(self, awaitable: Awaitable[T], done: Callable[[T | None, BaseException | None], object]) -> None:
        self._send = awaitable.__await__().send
        self._done = done

    def step(self, _: object = None) -> None:
        try:
            future = self._send(None)
        except StopIteration as stop:
            self._done(stop.value, None)
        except Exception as error:
            self._done(None, error)
        else:
            future._asyncio_future_blocking = False
            future.add_done_callback(self.step)


def start(awaitable: Awaitable[Any], done: Callable[[Any, BaseException | None], object]) -> None:
    """Run a coroutine up to where it waits, now, and go on as what it waits for comes.

    :param awaitable: the coroutine.
    :param done: called with its result, or its error.
    """
    if not asyncio.iscoroutine(awaitable):
        raise TypeError(f"a coroutine is needed, not {awaitable!r}")
    _Run(awaitable, done).step()
