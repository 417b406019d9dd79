"""What the commands show of events and those who read them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ..consumers.records import ConsumerRecord, FailedEvent
from ..records import Event
from ..values import JsonValue
from .showing import Shape, ago, told

__all__ = ["ConsumerRow", "EventRow", "FailedRow", "Forgotten", "Pruned", "Redelivered"]


@dataclass(frozen=True)
class EventRow(Shape):
    """An event of the log."""

    id: int = told("its place in the log; what `--after` takes", "ID", right=True)
    asset: str = told("the name of the asset", "ASSET")
    watcher: str = told("the watcher that recorded it", "WATCHER")
    key: str | None = told("what makes it idempotent; null where it has none")
    created_at: datetime = told("when it was committed; lines sort by it", "CREATED", brief=ago)
    payload: JsonValue = told("what the watcher gave", "PAYLOAD", cut=True)

    @classmethod
    def of(cls, event: Event) -> EventRow:
        """Show an event."""
        return EventRow(event.id, event.asset, event.watcher, event.key, event.created_at, event.payload)


@dataclass(frozen=True)
class FailedRow(EventRow):
    """An event that was set aside, and its failures."""

    consumer: str = told("the consumer that failed")
    attempts: int = told("how often", "ATTEMPTS", right=True)
    failed_at: datetime = told("when it failed last")
    error: str | None = told("the traceback of that", "ERROR", cut=True)

    @classmethod
    def failing(cls, failed: FailedEvent) -> FailedRow:
        """Show an event with its failures."""
        facts = vars(EventRow.of(failed.event))
        return cls(
            **facts,
            consumer=failed.consumer,
            attempts=failed.attempts,
            failed_at=failed.failed_at,
            error=failed.error,
        )


@dataclass(frozen=True)
class ConsumerRow(Shape):
    """A durable consumer."""

    asset: str = told("the asset whose events it reads", "ASSET")
    consumer: str = told("its name", "CONSUMER")
    position: int = told("the largest id that was handed out", "POSITION", right=True)
    behind: int = told("how many events come after that", "BEHIND", right=True)
    in_hand: int = told("how many readers have in hand", "IN HAND", right=True)
    waiting: int = told("how many wait for another attempt", "WAITING", right=True)
    failed: int = told("how many were set aside", "FAILED", right=True)
    readers: int = told("how many readers there are", "READERS", right=True)

    @classmethod
    def of(cls, record: ConsumerRecord) -> ConsumerRow:
        """Show a consumer."""
        return cls(
            record.asset,
            record.name,
            record.position,
            record.behind,
            record.in_hand,
            record.waiting,
            record.failed,
            record.readers,
        )


@dataclass(frozen=True)
class Redelivered(Shape):
    """How much is delivered again."""

    events: int = told("how many events")


@dataclass(frozen=True)
class Forgotten(Shape):
    """What was forgotten."""

    consumer: str = told("the consumer")


@dataclass(frozen=True)
class Pruned(Shape):
    """How many events went."""

    deleted: int = told("how many events were deleted; with `--dry-run`, would be")
    dry_run: bool = told("nothing was deleted")
    skipped: str | None = told("why nothing could be done; null where it was")
