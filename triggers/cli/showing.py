"""What the commands show of watchers and triggerers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from asyncstore import TriggererRecord, WatcherOrder, WatcherRecord, WatcherState
from asyncstore.cli.showing import Shape, ago, told

from ..poison import SetAside

__all__ = ["AsideRow", "TriggererRow", "WatcherRow"]


def _left(span: timedelta) -> str:
    return "overdue" if span < timedelta(0) else f"{span.total_seconds():.1f}s"


def _rounded(rate: Any) -> str:
    return f"{rate:.0f}"


@dataclass(frozen=True)
class WatcherRow(Shape):
    """A watcher; spans are in seconds."""

    asset: str = told("the name of the watched asset", "ASSET")
    watcher: str = told("its name", "WATCHER")
    state: WatcherState = told("what it is doing", "STATE")
    asked: WatcherOrder | None = told("what somebody asked of it that is not done yet", "ASKED")
    owner: str | None = told("who made the latest claim", "OWNER", cut=True)
    fence: int = told("the fencing number of that claim")
    claimed_at: datetime | None = told("when it was claimed")
    lease_age: timedelta | None = told("since its triggerer renewed its lease; null where none runs it", "LEASE")
    last_event_id: int | None = told("its latest event")
    last_event_at: datetime | None = told("when that was committed", "EVENT", brief=ago)
    events_per_minute: float = told("how many in the last minute, nearly", "/MIN", right=True, show=_rounded)
    without_progress: timedelta | None = told("since it was claimed, wrote state or recorded an event")
    restarts: int = told("how often it was started again after an error", "RESTARTS", right=True)
    last_error: str | None = told("the traceback of its latest error")
    last_error_at: datetime | None = told("when that was")
    updated_at: datetime = told("when its state changed")

    @classmethod
    def of(cls, record: WatcherRecord) -> WatcherRow:
        """Show a watcher."""
        return cls(
            asset=record.asset,
            watcher=record.name,
            state=record.state,
            asked=record.asked,
            owner=record.owner or None,
            fence=record.fence,
            claimed_at=record.claimed_at,
            lease_age=record.lease_age,
            last_event_id=record.last_event_id,
            last_event_at=record.last_event_at,
            events_per_minute=round(record.events_per_minute, 2),
            without_progress=record.without_progress,
            restarts=record.restarts,
            last_error=record.last_error,
            last_error_at=record.last_error_at,
            updated_at=record.updated_at,
        )


@dataclass(frozen=True)
class TriggererRow(Shape):
    """A process that runs watchers; spans are in seconds."""

    id: int = told("never used again")
    owner: str = told("who it is, for people", "OWNER")
    running: int = told("how many watchers it runs", "RUNNING", right=True)
    capacity: int = told("how many it runs at most", "CAPACITY", right=True)
    draining: bool = told("it takes no more", "DRAINING")
    started_at: datetime = told("when it joined", "STARTED", brief=ago)
    lease_age: timedelta = told("since it renewed its lease", "LEASE")
    lease_remaining: timedelta = told("until others take over; negative where it is overdue", "LEFT", show=_left)

    @classmethod
    def of(cls, record: TriggererRecord) -> TriggererRow:
        """Show a triggerer."""
        return cls(
            record.id,
            record.owner,
            record.running,
            record.capacity,
            record.draining,
            record.started_at,
            record.lease_age,
            record.lease_remaining,
        )


@dataclass(frozen=True)
class AsideRow(Shape):
    """An item of a source that a watcher failed at."""

    watcher: str = told("the watcher", "WATCHER")
    item: str = told("the item", "ITEM")
    attempts: int = told("how often it failed", "ATTEMPTS", right=True)
    aside: bool = told("the watcher has gone on without it", "ASIDE")
    error: str | None = told("the traceback", "ERROR", cut=True)

    @classmethod
    def of(cls, failed: SetAside) -> AsideRow:
        """Show an item."""
        return cls(failed.watcher, failed.item, failed.attempts, failed.is_aside, failed.error)
