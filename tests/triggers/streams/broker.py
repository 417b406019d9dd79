"""A broker in this process: queues with receipts, redelivery and a place for dead letters."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio

from triggers import AdvanceItem, SharedStreamProducer, Verdict


@dataclass(eq=False)
class Message:
    number: int
    lane: str = "a"
    deliveries: int = 0


@dataclass(eq=False)
class Broker:
    """Holds messages until they are acknowledged; a new connection is given what the last one left."""

    ready: deque[Message] = field(default_factory=deque[Message])
    unacknowledged: dict[Message, None] = field(default_factory=dict[Message, None])
    acknowledged: list[int] = field(default_factory=list[int])
    dead: list[int] = field(default_factory=list[int])
    items: list[AdvanceItem] = field(default_factory=list[AdvanceItem])
    connections: int = 0
    open_now: int = 0
    closed: bool = False
    #: Awaited at the beginning of each `advance`.
    on_advance: Callable[[Sequence[AdvanceItem]], Awaitable[None]] | None = None
    #: Awaited before each delivery.
    on_deliver: Callable[[Message], Awaitable[None]] | None = None
    changed: anyio.Event = field(default_factory=anyio.Event)

    def publish(self, *numbers: int, lane: str = "a") -> None:
        self.ready.extend(Message(number, lane) for number in numbers)
        self.tell()

    def tell(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()

    def close(self) -> None:
        """End the streams once everything is acknowledged or dead."""
        self.closed = True
        self.tell()

    @property
    def is_done(self) -> bool:
        return not self.ready and not self.unacknowledged

    def numbers(self, verdict: Verdict) -> list[int]:
        return [item.receipt.number for item in self.items if item.verdict is verdict]


class Connection(SharedStreamProducer):
    """One connection to the broker."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.advancing: set[str] = set()

    async def open_stream(self) -> AsyncIterator[tuple[int, Message]]:
        broker = self.broker
        broker.connections += 1
        broker.open_now += 1
        broker.ready.extendleft(reversed(broker.unacknowledged))
        broker.unacknowledged.clear()
        while not (broker.closed and broker.is_done):
            while broker.ready:
                message = broker.ready.popleft()
                broker.unacknowledged[message] = None
                message.deliveries += 1
                if broker.on_deliver is not None:
                    await broker.on_deliver(message)
                yield message.number, message
            if not (broker.closed and broker.is_done):
                await broker.changed.wait()

    def get_advance_lane(self, receipt: Message) -> Hashable:
        return receipt.lane

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        broker = self.broker
        (lane,) = {item.receipt.lane for item in batch}
        assert lane not in self.advancing, "two calls for one lane overlap"
        self.advancing.add(lane)
        try:
            if broker.on_advance is not None:
                await broker.on_advance(batch)
            for item in batch:
                self._settle(item)
        finally:
            self.advancing.discard(lane)
        broker.tell()

    def _settle(self, item: AdvanceItem) -> None:
        broker, message = self.broker, item.receipt
        broker.items.append(item)
        if message not in broker.unacknowledged:
            return  # of a connection that is gone
        del broker.unacknowledged[message]
        if item.verdict is Verdict.ACKNOWLEDGE:
            broker.acknowledged.append(message.number)
        elif item.verdict is Verdict.DEAD_LETTER:
            broker.dead.append(message.number)
        else:
            broker.ready.append(message)

    async def aclose(self) -> None:
        self.broker.open_now = 0


def counts(item: AdvanceItem) -> tuple[Any, int, int, int]:
    return item.receipt.number, item.accepted, item.rejected, item.failed
