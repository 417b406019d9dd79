"""Durable key/value state for tasks and assets, and the log of the events that watchers commit with it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .abc import BaseStoreBackend, Capability
from .accessors import AssetStoreAccessor, AssetStoreAccessors, TaskStoreAccessor
from .backends.memory import MemoryBackend
from .browsing.abc import Browsing
from .browsing.browser import Browser
from .browsing.records import AssetSummary, EntryRecord, TaskRecord
from .changes import Change, Clear, Commit, CommitResult, Delete, NewEvent, Put, RecordedEvent
from .clock import Clock, ManualClock, SystemClock
from .consumers.abc import Deliveries
from .consumers.consumer import Consumer
from .consumers.delivered import DeliveredEvent
from .consumers.records import ConsumerRecord, Delivery, FailedEvent, Member, PruneReport, Start, Taking
from .context import TaskContext
from .errors import (
    AssetConflictError,
    AssetError,
    AssetInactiveError,
    AssetNotFoundError,
    BlockingCallWarning,
    BrokenReferenceError,
    ConfigurationError,
    ConsumerNotFoundError,
    DatabaseError,
    InlineValueWarning,
    JobError,
    JobFailedError,
    JobGoneError,
    LeaseLostError,
    OutcomeUnknownError,
    SchemaError,
    StoreBusyError,
    StoreClosedError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
    UnsupportedOperationError,
    ValueTooLargeError,
    VersionConflictError,
    WatcherNotFoundError,
    WorkerBackendError,
)
from .events import EventLog
from .fleet import Fleet, TriggererRecord
from .jobs import JobRecord, JobStatus, ResumableJob
from .offload.abc import Leftover, Leftovers
from .offload.hooks import WorkerHooks
from .records import (
    AssetRecord,
    CleanupBatch,
    CleanupReport,
    Entry,
    Event,
    ExpiredRow,
    Lease,
    StoredEntry,
    SweepReport,
    WatcherOrder,
    WatcherRecord,
    WatcherState,
)
from .retention import NEVER_EXPIRE
from .scopes import Asset, AssetScope, Scope, TaskScope, Watcher
from .settings import (
    CommonIoSettings,
    CommonSettings,
    ConsumerSettings,
    DatabaseSettings,
    Settings,
    StateStoreSettings,
    TriggererSettings,
    WorkersSettings,
    load_settings,
)
from .store import Store, connect
from .values import JsonValue
from .watchers import Checkpoint, ClaimedWatcher

if TYPE_CHECKING:
    from .backends.metastore import MetastoreBackend
    from .backends.objects import ObjectStorageBackend

_LATE = {
    "MetastoreBackend": "asyncstore.backends.metastore",
    "ObjectStorageBackend": "asyncstore.backends.objects",
}

__all__ = [
    "NEVER_EXPIRE",
    "Asset",
    "AssetConflictError",
    "AssetError",
    "AssetInactiveError",
    "AssetNotFoundError",
    "AssetRecord",
    "AssetScope",
    "AssetStoreAccessor",
    "AssetStoreAccessors",
    "AssetSummary",
    "BaseStoreBackend",
    "BlockingCallWarning",
    "BrokenReferenceError",
    "Browser",
    "Browsing",
    "Capability",
    "Change",
    "Checkpoint",
    "ClaimedWatcher",
    "CleanupBatch",
    "CleanupReport",
    "Clear",
    "Clock",
    "Commit",
    "CommitResult",
    "CommonIoSettings",
    "CommonSettings",
    "ConfigurationError",
    "Consumer",
    "ConsumerNotFoundError",
    "ConsumerRecord",
    "ConsumerSettings",
    "DatabaseError",
    "DatabaseSettings",
    "Delete",
    "DeliveredEvent",
    "Deliveries",
    "Delivery",
    "Entry",
    "EntryRecord",
    "Event",
    "EventLog",
    "ExpiredRow",
    "FailedEvent",
    "Fleet",
    "InlineValueWarning",
    "JobError",
    "JobFailedError",
    "JobGoneError",
    "JobRecord",
    "JobStatus",
    "JsonValue",
    "Lease",
    "LeaseLostError",
    "Leftover",
    "Leftovers",
    "ManualClock",
    "Member",
    "MemoryBackend",
    "MetastoreBackend",
    "NewEvent",
    "ObjectStorageBackend",
    "OutcomeUnknownError",
    "PruneReport",
    "Put",
    "RecordedEvent",
    "ResumableJob",
    "SchemaError",
    "Scope",
    "Settings",
    "Start",
    "StateStoreSettings",
    "Store",
    "StoreBusyError",
    "StoreClosedError",
    "StoreCorruptError",
    "StoreError",
    "StoreFullError",
    "StoreReadOnlyError",
    "StoreUnavailableError",
    "StoredEntry",
    "SweepReport",
    "SystemClock",
    "Taking",
    "TaskContext",
    "TaskRecord",
    "TaskScope",
    "TaskStoreAccessor",
    "TriggererRecord",
    "TriggererSettings",
    "UnsupportedOperationError",
    "ValueTooLargeError",
    "VersionConflictError",
    "Watcher",
    "WatcherNotFoundError",
    "WatcherOrder",
    "WatcherRecord",
    "WatcherState",
    "WorkerBackendError",
    "WorkerHooks",
    "WorkersSettings",
    "connect",
    "load_settings",
]


def __getattr__(name: str) -> object:
    # The metastore needs SQLAlchemy, which a program with a backend of its own never imports; object storage an extra.
    if name in _LATE:
        return getattr(import_module(_LATE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
