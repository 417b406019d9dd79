"""What one watcher reads of a shared stream."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from ..errors import SharedStreamError
from .derived import Stream
from .feed import Feed
from .ring import Kept
from .source import Reader

__all__ = ["Subscription"]


class Subscription(Stream):
    """Read from the ring while it holds all that comes next, else from a source of one's own until it does.

    With positions the filter is given every raw event after its own position, once and in the order of the stream,
    however late it joins and however slow it is:

    - it reads from the ring from its position on only where the ring holds all that comes after that;
    - otherwise a source of its own is opened after that position, until the ring does.

    Without positions a late one reads a source of its own to the end, where the hub gave it none that it can share,
    and one that falls behind is told by an error, so that its watcher begins at its watermark. Of snapshots it is
    given the latest.

    :param feed: the shared source.
    :param since: asks the watcher for its position.
    :param on_close: called once, when it leaves.
    """

    def __init__(self, feed: Feed, *, since: Callable[[], Awaitable[Any]], on_close: Callable[[], None]) -> None:
        self._feed = feed
        self._since: Callable[[], Awaitable[Any]] | None = since if feed.source.positioned else None
        self._on_close: Callable[[], None] | None = on_close
        self._own = Reader(feed.source)
        #: The number in the ring that comes next; None while it reads a source of its own.
        self._next: int | None = None

    async def __anext__(self) -> Any:
        if self._since is not None:
            self._own.at, self._since = await self._since(), None
            self._feed.begin_after(self._own.at)
        if self._next is None:
            await self._join()
        while self._next is not None:
            kept = await self._feed.wait(self._next)
            if kept is None:
                self._fall_behind()
                continue
            self._next += 1
            if self._is_new(kept):
                return kept.raw
        return await self._own.next()

    async def _join(self) -> None:
        ring = self._feed.ring
        number = ring.after(self._own.at)
        if number is None or (self._own.is_open and not ring.is_near(number)):
            return
        self._next = number
        await self._own.aclose()

    def _is_new(self, kept: Kept) -> bool:
        # The source of one's own may have been ahead of the shared one.
        if kept.position is None:
            return True
        if self._own.at is not None and not self._own.at < kept.position:
            return False
        self._own.at = kept.position
        return True

    def _fall_behind(self) -> None:
        source = self._feed.source
        if source.snapshots:
            self._next = self._feed.ring.first
        elif source.positioned:
            self._next = None
        else:
            raise SharedStreamError(
                f"the watcher fell more than shared_stream_buffer raw events behind, and {source.kind.__qualname__} "
                "has no shared_stream_position() to catch up by; it begins at its watermark"
            )

    async def aclose(self) -> None:
        """Leave the shared source, and close one's own."""
        on_close, self._on_close = self._on_close, None
        try:
            await self._own.aclose()
        finally:
            if on_close is not None:
                on_close()
