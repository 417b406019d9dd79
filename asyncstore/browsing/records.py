"""What is told of what is there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ..records import AssetRecord
from ..scopes import TaskScope

__all__ = ["AssetSummary", "EntryRecord", "TaskRecord"]


@dataclass(frozen=True, slots=True)
class AssetSummary:
    """Hold what is registered of an asset, and how much hangs on it.

    :ivar record: the registration.
    :ivar keys: rows of state.
    :ivar events: events in the log.
    :ivar watchers: watchers that were ever declared or claimed.
    :ivar consumers: consumers of its events.
    """

    record: AssetRecord
    keys: int
    events: int
    watchers: int
    consumers: int


@dataclass(frozen=True, slots=True)
class EntryRecord:
    """Hold what is known of a key.

    :ivar key: the key.
    :ivar version: as in `Entry`, and so the next three.
    :ivar size: bytes of the value's JSON in UTF-8, wherever it is kept.
    :ivar text: the JSON text, where values were asked for and it is in the store; else None.
    :ivar reference: what is stored in the place of a value that a worker-side backend keeps; else None.
    """

    key: str
    version: int
    updated_at: datetime
    expires_at: datetime | None
    updated_by: str | None
    size: int
    text: str | None = None
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """Hold what is known of a task instance that has state.

    :ivar scope: the task instance.
    :ivar keys: how many keys it has that have not expired.
    :ivar updated_at: when the latest of them was written, in UTC.
    """

    scope: TaskScope
    keys: int
    updated_at: datetime
