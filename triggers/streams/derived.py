"""The events that one watcher derives from a stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import Any, Self

from ..events import TriggerEvent
from .source import close, uninvited

__all__ = ["Derived", "Stream"]


class Stream(ABC):
    """Be what a filter reads: the raw events for one watcher."""

    def __aiter__(self) -> Self:
        return self

    @abstractmethod
    async def __anext__(self) -> Any:
        """Give the next raw event."""

    def derived(self) -> None:  # noqa: B027 - optional
        """Hear that an event of the raw event in hand is committed."""

    async def settle(self, *, failed: bool) -> None:  # noqa: B027 - optional
        """Hear that the filter ended, by returning or by raising.

        :param failed: it raised.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Leave; what is in hand and not settled counts as never given."""


class Derived(AsyncIterator[TriggerEvent]):
    """Drive a filter as its generator would be driven, and tell the stream what became of each event.

    To ask for the next event says that the one before is committed; to throw an error says that it was refused.

    :param events: what `filter_shared_stream` returned.
    :param stream: what it reads.
    """

    def __init__(self, events: AsyncIterator[TriggerEvent], stream: Stream) -> None:
        self._events = events
        self._stream = stream
        self._waits = False

    async def __anext__(self) -> TriggerEvent:
        """Give the next event; the one before is committed.

        :raises StopAsyncIteration: the filter has returned.
        """
        if self._waits:
            self._waits = False
            self._stream.derived()
        return await self._step(anext(self._events))

    async def athrow(self, error: BaseException) -> TriggerEvent:
        """Raise at the filter's `yield`, because its event was refused, and give the next one.

        :param error: why.
        :raises StopAsyncIteration: the filter has returned.
        """
        self._waits = False
        throw = getattr(self._events, "athrow", None)
        return await self._step(_raise(error) if throw is None else throw(error))

    async def _step(self, step: Any) -> TriggerEvent:
        try:
            with uninvited("filter_shared_stream"):
                event: TriggerEvent = await step
        except StopAsyncIteration:
            await self._stream.settle(failed=False)
            raise
        except Exception:
            await self._stream.settle(failed=True)
            raise
        self._waits = True
        return event

    async def aclose(self) -> None:
        """Close the filter, and leave the stream."""
        try:
            await close(self._events)
        finally:
            await self._stream.aclose()


async def _raise(error: BaseException) -> TriggerEvent:
    raise error
