"""Watchers and triggerers as text and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from asyncstore import JsonValue, TriggererRecord, WatcherRecord
from asyncstore.cli.output import json_line

from ..poison import SetAside

__all__ = [
    "TRIGGERER_HEAD",
    "WATCHER_HEAD",
    "aside_json",
    "details",
    "table",
    "triggerer_json",
    "triggerer_row",
    "watcher_json",
    "watcher_row",
]

WATCHER_HEAD = ("ASSET", "WATCHER", "STATE", "OWNER", "LEASE", "EVENTS/MIN", "LAST EVENT", "RESTARTS")
TRIGGERER_HEAD = ("OWNER", "RUNNING", "CAPACITY", "LEASE", "SINCE", "STATE")


def _age(span: timedelta | None) -> str:
    if span is None:
        return "-"
    seconds = span.total_seconds()
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.1f}s" if seconds < 10 else f"{seconds:.0f}s"


def _time(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"


def _state(record: WatcherRecord) -> str:
    return record.state if record.asked is None else f"{record.state} ({record.asked} asked)"


def watcher_row(record: WatcherRecord) -> tuple[str, ...]:
    """Give the cells of `WATCHER_HEAD`; times are in UTC, the lease's age is since its last renewal."""
    return (
        record.asset,
        record.name,
        _state(record),
        record.owner if record.lease_age is not None else "-",
        _age(record.lease_age),
        f"{record.events_per_minute:.0f}",
        _time(record.last_event_at),
        str(record.restarts),
    )


def triggerer_row(record: TriggererRecord) -> tuple[str, ...]:
    """Give the cells of `TRIGGERER_HEAD`."""
    state = "draining" if record.draining else "gone" if record.lease_remaining < timedelta(0) else "here"
    running, capacity = str(record.running), str(record.capacity)
    return record.owner, running, capacity, _age(record.lease_age), _time(record.started_at), state


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Align rows in columns, two spaces between them."""
    shown = [[_printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[place]) for row in [head, *shown]) for place in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *shown]]
    return [line.rstrip() for line in lines]


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)


def details(record: WatcherRecord) -> list[str]:
    """Tell everything about a watcher, a fact a line, the traceback of its latest error last."""
    facts = {
        "asset": record.asset,
        "watcher": record.name,
        "state": _state(record),
        "owner": record.owner or "-",
        "claimed": _time(record.claimed_at),
        "lease renewed": "-" if record.lease_age is None else f"{_age(record.lease_age)} ago",
        "fence": str(record.fence),
        "last event": "-" if record.last_event_id is None else f"{record.last_event_id}, {_time(record.last_event_at)}",
        "events per minute": f"{record.events_per_minute:.1f}",
        "without progress": _age(record.without_progress),
        "restarts": str(record.restarts),
        "last error": _time(record.last_error_at),
    }
    lines = [f"{name + ':':19}{_printable(value)}" for name, value in facts.items()]
    error = (record.last_error or "").splitlines()
    return lines + [f"  {_printable(line)}" for line in error]


def _seconds(span: timedelta | None) -> float | None:
    return None if span is None else span.total_seconds()


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"


def watcher_json(record: WatcherRecord) -> str:
    """Write what is known of a watcher as one line of JSON; spans are in seconds, times in UTC."""
    shape: dict[str, JsonValue] = {
        "asset": record.asset,
        "watcher": record.name,
        "state": record.state.value,
        "asked": None if record.asked is None else record.asked.value,
        "owner": record.owner or None,
        "fence": record.fence,
        "claimed_at": _iso(record.claimed_at),
        "lease_age": _seconds(record.lease_age),
        "last_event_id": record.last_event_id,
        "last_event_at": _iso(record.last_event_at),
        "events_per_minute": round(record.events_per_minute, 2),
        "without_progress": _seconds(record.without_progress),
        "restarts": record.restarts,
        "last_error": record.last_error,
        "last_error_at": _iso(record.last_error_at),
        "updated_at": _iso(record.updated_at),
    }
    return json_line(shape)


def aside_json(failed: SetAside) -> str:
    """Write an item that a watcher failed at as one line of JSON."""
    shape: dict[str, JsonValue] = {
        "watcher": failed.watcher,
        "item": failed.item,
        "attempts": failed.attempts,
        "aside": failed.is_aside,
        "error": failed.error,
    }
    return json_line(shape)


def triggerer_json(record: TriggererRecord) -> str:
    """Write what is known of a triggerer as one line of JSON."""
    shape: dict[str, JsonValue] = {
        "id": record.id,
        "owner": record.owner,
        "running": record.running,
        "capacity": record.capacity,
        "draining": record.draining,
        "started_at": _iso(record.started_at),
        "lease_age": _seconds(record.lease_age),
        "lease_remaining": _seconds(record.lease_remaining),
    }
    return json_line(shape)
