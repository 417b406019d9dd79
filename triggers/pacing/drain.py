"""How long what must not be interrupted may still take once the triggerer stops."""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager

import anyio
from anyio import CancelScope

__all__ = ["Drain"]


class Drain:
    """Shield work from cancellation until draining begins, and for a bounded time after.

    :param timeout: seconds from the beginning of draining.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._deadline = math.inf
        self._shields: set[CancelScope] = set()

    def begin(self) -> None:
        """Begin to drain: what is shielded now or later ends by the deadline."""
        if self._deadline == math.inf:
            self._deadline = anyio.current_time() + self._timeout
            for scope in self._shields:
                scope.deadline = min(scope.deadline, self._deadline)

    @contextmanager
    def shield(self, at_most: float = math.inf) -> Generator[CancelScope]:
        """Shield a block.

        :param at_most: seconds after which the block is cancelled even when nothing drains.
        """
        deadline = min(self._deadline, anyio.current_time() + at_most)
        with CancelScope(shield=True, deadline=deadline) as scope:
            self._shields.add(scope)
            try:
                yield scope
            finally:
                self._shields.discard(scope)

    async def watch(self) -> None:
        """Wait to be cancelled, and begin to drain then."""
        try:
            await anyio.sleep_forever()
        finally:
            self.begin()
