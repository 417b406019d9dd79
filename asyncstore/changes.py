"""What goes into a backend in one atomic commit: state changes, events, and the lease they stand on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from .records import Lease
from .scopes import Scope

__all__ = ["Change", "Clear", "Commit", "CommitResult", "Delete", "NewEvent", "Put", "RecordedEvent"]


@dataclass(frozen=True, slots=True)
class Put:
    """Write or overwrite one key.

    :param scope: what the key belongs to.
    :param key: a checked key.
    :param value: JSON text.
    :param expires_at: an aware datetime from which the value is absent; None for never. Task state only.
    :param if_version: write only if this version is stored; 0 for "absent or expired", None for always.
    """

    scope: Scope
    key: str
    value: str
    expires_at: datetime | None = None
    if_version: int | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove one key; nothing happens where it is absent."""

    scope: Scope
    key: str


@dataclass(frozen=True, slots=True)
class Clear:
    """Remove every key of a scope.

    :param scope: what the keys belong to.
    :param all_map_indices: of a task, every mapped instance and the unmapped one.
    """

    scope: Scope
    all_map_indices: bool = False


Change = Put | Delete | Clear


@dataclass(frozen=True, slots=True)
class NewEvent:
    """Record an event of the asset that the commit's lease is for.

    :param payload: JSON text.
    :param key: makes the event idempotent: the second one of a watcher with the same key is recorded as the first.
    """

    payload: str
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Commit:
    """Make all changes and record all events, or nothing.

    Changes apply in order, so that a later one of the same key wins; each gets its own version.

    :param changes: the state changes.
    :param events: the events, in order; they need a lease.
    :param lease: the claim that must still hold, checked inside the same transaction.
    :param updated_by: who writes, kept beside each value; None where nobody says.
    """

    changes: tuple[Change, ...] = ()
    events: tuple[NewEvent, ...] = ()
    lease: Lease | None = None
    updated_by: str | None = None

    def __post_init__(self) -> None:
        if self.events and self.lease is None:
            raise ValueError("events belong to a watcher: the commit needs its lease")


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """Tell where an event stands in the log.

    :ivar id: its id; ids of one asset grow in the order of their commits.
    :ivar duplicate: the key was recorded before; the id is that of the first.
    """

    id: int
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class CommitResult:
    """Tell what a commit did.

    :ivar versions: one per change: the version a `Put` wrote, 0 for the others.
    :ivar events: one per event.
    :ivar committed_at: when, in UTC; `created_at` of the events that are new.
    """

    committed_at: datetime
    versions: tuple[int, ...] = ()
    events: tuple[RecordedEvent, ...] = ()
