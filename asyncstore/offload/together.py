"""Several requests at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

__all__ = ["together"]

T = TypeVar("T")

#: Objects that one call writes or reads at once at most.
_AT_ONCE = 64


async def together(functions: Sequence[Callable[[], Awaitable[T]]]) -> list[T | BaseException]:
    """Await several coroutines at once, each to its end; gives what each returned or raised.

    :param functions: make them.
    """
    if len(functions) == 1:  # the everyday case, without a task
        try:
            return [await functions[0]()]
        except Exception as error:
            return [error]
    turns = asyncio.Semaphore(_AT_ONCE)

    async def run(function: Callable[[], Awaitable[T]]) -> T:
        async with turns:
            return await function()

    return await asyncio.gather(*map(run, functions), return_exceptions=True)
