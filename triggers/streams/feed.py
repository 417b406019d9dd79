"""One open source and its subscribers."""

from __future__ import annotations

from typing import Any

import anyio
from anyio import CancelScope

from ..errors import SharedStreamError
from .demand import Demand
from .ring import Kept, Ring
from .source import Source, close, uninvited
from .terms import Terms

__all__ = ["Feed"]


class Feed:
    """Read a source once for all its subscribers, as fast as the fastest of them asks.

    A slower one reads from the ring what the fastest has passed. The source is never read ahead of the fastest, so
    nobody falls behind by the source's speed, and nobody waits for a slower sibling.

    :param source: what to read.
    :param terms: buffer, delays and whom to tell of the end.
    """

    def __init__(self, source: Source, terms: Terms) -> None:
        self.source = source
        self.ring = Ring(terms.size, positioned=source.positioned, snapshots=source.snapshots)
        self._terms = terms
        self._demand = Demand()
        self._scope = CancelScope()
        self._begun = False
        self._opened = False
        self._ended = False
        self._error: Exception | None = None

    @property
    def serves_newcomers(self) -> bool:
        """Return whether one that comes now can be given all it needs, or can get here by itself."""
        return self.source.positioned or self.source.snapshots or not self.ring.first

    def begin_after(self, at: Any) -> None:
        """Begin, where the source is not open yet, no earlier than those need it who came so far.

        :param at: the position of one that comes now; None for the beginning.
        """
        if not self._opened:
            floor = self.ring.floor
            self.ring.floor = at if not self._begun else None if at is None or floor is None else min(at, floor)
            self._begun = True

    async def run(self) -> None:
        """Read until the source ends or raises, or `stop`."""
        with self._scope:
            await self._demand.wait_asked()
            await anyio.sleep_until(self._terms.opens_at)
            opened_at = anyio.current_time()
            try:
                with uninvited(f"{self.source.kind.__qualname__}.open_shared_stream"):
                    await self._read()
            except Exception as error:
                self._error = error
            self._ended = True
            self._terms.on_end(self, self._error, anyio.current_time() - opened_at)
            self._demand.tell()

    async def _read(self) -> None:
        self._opened = True
        stream = self.source.open(self.ring.floor)
        try:
            async for raw in stream:
                position = self.source.position(raw) if self.source.positioned else None
                if position is not None and self.ring.last is not None and not self.ring.last < position:
                    continue
                self.ring.append(Kept(position, raw))
                self._demand.tell()
                await self._demand.wait_asked()
        finally:
            with self._terms.shield():
                await close(stream)

    async def wait(self, number: int) -> Kept | None:
        """Give the raw event of a number, once it is there; None when it is forgotten.

        :param number: at most the head.
        :raises StopAsyncIteration: the source has ended before it.
        :raises SharedStreamError: the source has raised before it.
        """
        while number >= self.ring.head:
            if self._error is not None:
                raise SharedStreamError(
                    f"the shared stream of {self.source.kind.__qualname__} failed: "
                    f"{type(self._error).__name__}: {self._error}"
                ) from self._error
            if self._ended:
                raise StopAsyncIteration
            await self._demand.wait_news()
        return None if number < self.ring.first else self.ring[number]

    def stop(self) -> None:
        """Close the source."""
        self._scope.cancel()
