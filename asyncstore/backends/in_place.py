"""What backends share whose coroutines can work without an event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from ..abc import BaseStoreBackend
from ..blocking import drive

__all__ = ["InPlaceBackend"]

T = TypeVar("T")


class InPlaceBackend(BaseStoreBackend):
    """Do the work of a sync call on the calling thread: no loop, no hop, no other thread to wait for."""

    def run_blocking(self, function: Callable[[], Awaitable[T]]) -> T:
        """Run one of this backend's coroutines to its end on this thread."""

        async def call() -> T:
            return await function()

        return drive(call())
