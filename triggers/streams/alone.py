"""Running the shared hooks of one watcher without sharing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from ..errors import SharedStreamError
from .derived import Derived, Stream
from .records import AdvanceItem
from .source import Reader, Source, close, generator

if TYPE_CHECKING:
    from ..abc import BaseEventTrigger, SharedStreamProducer

__all__ = ["events_alone", "filtered"]


def filtered(trigger: BaseEventTrigger, stream: Stream) -> Derived:
    """Give the events that a trigger's filter derives from a stream.

    :param trigger: the trigger.
    :param stream: its raw events.
    :raises InvalidTriggerError: the filter is no async generator.
    """
    events = trigger.filter_shared_stream(stream)
    return Derived(generator(events, f"{type(trigger).__qualname__}.filter_shared_stream"), stream)


def events_alone(trigger: BaseEventTrigger, source: Source) -> Derived:
    """Give the events of a trigger from a source, or a producer, of its own.

    :param trigger: the trigger.
    :param source: its class and arguments.
    :raises InvalidTriggerError: a hook is no async generator.
    """
    producer = source.kind.create_shared_stream_producer(source.kwargs)
    return filtered(trigger, _Reading(trigger, source) if producer is None else _Acknowledging(producer))


class _Reading(Stream):
    """Read a source from the watermark on."""

    def __init__(self, trigger: BaseEventTrigger, source: Source) -> None:
        self._reader = Reader(source)
        self._since = trigger.shared_stream_since if source.positioned else None

    async def __anext__(self) -> Any:
        if self._since is not None:
            self._reader.at, self._since = await self._since(), None
        return await self._reader.next()

    async def aclose(self) -> None:
        await self._reader.aclose()


class _Acknowledging(Stream):
    """Read a producer, and advance each raw event before the next is asked for."""

    def __init__(self, producer: SharedStreamProducer) -> None:
        self._producer = producer
        self._pairs: AsyncIterator[tuple[Any, Any]] | None = None
        self._held: list[Any] = []
        self._derived = 0
        self._interrupted = False

    async def __anext__(self) -> Any:
        await self.settle(failed=False)
        if self._interrupted:
            raise SharedStreamError("waiting for the next raw event was cancelled, and the connection is lost with it")
        if self._pairs is None:
            self._pairs = generator(self._producer.open_stream(), f"{type(self._producer).__qualname__}.open_stream")
        # A generator whose `anext` is cancelled is finished, which is not the end of the source.
        self._interrupted = True
        try:
            raw, receipt = await anext(self._pairs)
        except StopAsyncIteration:
            self._interrupted = False
            raise
        self._interrupted = False
        self._held, self._derived = [receipt], 0
        return raw

    def derived(self) -> None:
        self._derived += 1

    async def settle(self, *, failed: bool) -> None:
        while self._held:
            accepted = not failed and self._derived > 0
            item = AdvanceItem(
                self._held.pop(), accepted=int(accepted), rejected=int(not failed and not accepted), failed=int(failed)
            )
            await self._producer.advance([item])

    async def aclose(self) -> None:
        try:
            await close(self._pairs)
        finally:
            await close(self._producer)
