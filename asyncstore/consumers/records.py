"""What consumers of events deal in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from ..records import Event
from ..scopes import AssetScope

__all__ = ["ConsumerRecord", "Delivery", "FailedEvent", "Member", "PruneReport", "Start", "Taking"]

#: Where a new consumer begins: at the first event in the log, behind the last one, at an event by its id, or at the
#: first one that was recorded at a time or later.
Start = Literal["beginning", "end"] | int | datetime


@dataclass(frozen=True, slots=True)
class Member:
    """Be one reader of a consumer, which holds what it takes for as long as it renews its lease.

    :ivar id: never used again.
    :ivar consumer_id: the consumer.
    :ivar asset: the canonical scope of the asset.
    :ivar name: the consumer's name.
    :ivar start: where the consumer once began, as `start_text` spells it; None where that is not kept.
    """

    id: int
    consumer_id: int
    asset: AssetScope
    name: str
    start: str | None = None


@dataclass(frozen=True, slots=True)
class Taking:
    """Say how events are taken.

    :ivar lease: how long what is taken is held unless the lease is renewed.
    :ivar limit: how many events at most.
    :ivar max_attempts: after so many failures an event is delivered no more; 0 for no limit.
    :ivar skip: drop such an event; otherwise it is set aside.
    """

    lease: timedelta
    limit: int
    max_attempts: int = 0
    skip: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """Be one event in the hand of one reader.

    :ivar event: the event.
    :ivar consumer_id: the consumer.
    :ivar fence: tells this delivery from every other one of the event.
    :ivar attempt: 1 for the first, and one more for each failure before.
    """

    event: Event
    consumer_id: int
    fence: int
    attempt: int


@dataclass(frozen=True, slots=True)
class FailedEvent:
    """Hold an event that failed too often, and was set aside.

    :ivar event: the event.
    :ivar consumer: the name of the consumer.
    :ivar attempts: how often it failed.
    :ivar error: the traceback of the last failure, or what is known of it.
    :ivar failed_at: since when it is set aside, in UTC.
    """

    event: Event
    consumer: str
    attempts: int
    error: str
    failed_at: datetime


@dataclass(frozen=True, slots=True)
class ConsumerRecord:
    """Hold what is known of a consumer.

    :ivar asset: the name of the asset.
    :ivar name: its own name.
    :ivar position: the largest id of an event that was handed out.
    :ivar behind: how many events follow it.
    :ivar in_hand: how many events its readers have taken and not done.
    :ivar waiting: how many wait for another attempt.
    :ivar failed: how many are set aside.
    :ivar readers: how many readers it has now.
    :ivar created_at: when it began, in UTC.
    """

    asset: str
    name: str
    position: int
    behind: int
    in_hand: int
    waiting: int
    failed: int
    readers: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class PruneReport:
    """Tell what a pruning of old events did.

    :ivar backend: the name of the backend's class.
    :ivar deleted: events that went; in a dry run, that would go.
    :ivar dry_run: nothing was deleted.
    :ivar skipped: why nothing could be done; None where it was.
    """

    backend: str
    deleted: int
    dry_run: bool
    skipped: str | None = None
