"""Every error of asyncstore.

::

    StoreError
    ├── ConfigurationError           an option, a dotted path or an argument of `connect` is wrong
    ├── StoreClosedError             used before it was opened or after it was closed
    ├── UnsupportedOperationError    the backend does not declare the capability
    ├── ValueTooLargeError           also a ValueError
    ├── VersionConflictError         `if_version` did not match
    ├── BrokenReferenceError         what a worker-side backend keeps is gone, or is not what the row says
    ├── WorkerBackendError           a worker-side backend failed, or its storage cannot be reached
    ├── AssetError
    │   ├── AssetNotFoundError       also a LookupError; never confused with an absent key
    │   ├── AssetInactiveError       deactivated; its state rests until it is activated or swept
    │   └── AssetConflictError       a name with another URI, or a URI under another name
    ├── WatcherNotFoundError         also a LookupError
    ├── ConsumerNotFoundError        also a LookupError; no consumer of that name reads the asset
    ├── JobError
    │   ├── JobFailedError           the external job failed; the next attempt submits another
    │   └── JobGoneError             its runner does not know it any more; nobody can tell how it ended
    ├── LeaseLostError               another process has the watcher or event, or the lease ran out; nothing was written
    ├── SchemaError                  the tables are missing, or older or newer than this release
    └── DatabaseError
        ├── StoreBusyError           a lock was not granted within the lock timeout
        ├── StoreReadOnlyError       the file or its folder cannot be written
        ├── StoreFullError           no space is left
        ├── StoreCorruptError        the file is damaged, or no database at all
        ├── StoreUnavailableError    the database cannot be opened or reached
        └── OutcomeUnknownError      the connection was lost after a write was sent

`BlockingCallWarning` and `InlineValueWarning` are the warnings. Invalid keys, values, retentions and scopes raise the
built-in `ValueError` and `TypeError`; an asset that a task did not declare raises `KeyError`.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "AssetConflictError",
    "AssetError",
    "AssetInactiveError",
    "AssetNotFoundError",
    "BlockingCallWarning",
    "BrokenReferenceError",
    "ConfigurationError",
    "ConsumerNotFoundError",
    "DatabaseError",
    "InlineValueWarning",
    "JobError",
    "JobFailedError",
    "JobGoneError",
    "LeaseLostError",
    "OutcomeUnknownError",
    "SchemaError",
    "StoreBusyError",
    "StoreClosedError",
    "StoreCorruptError",
    "StoreError",
    "StoreFullError",
    "StoreReadOnlyError",
    "StoreUnavailableError",
    "UnsupportedOperationError",
    "ValueTooLargeError",
    "VersionConflictError",
    "WatcherNotFoundError",
    "WorkerBackendError",
]


class StoreError(Exception):
    """Stand at the root of every error that asyncstore raises itself."""


class ConfigurationError(StoreError):
    """Say which option is wrong, what it was, where it came from and what is allowed."""


class StoreClosedError(StoreError):
    """Say that a store or backend was used after it was closed."""


class UnsupportedOperationError(StoreError):
    """Say which capability a backend lacks, and the backend's name."""


class ValueTooLargeError(StoreError, ValueError):
    """Say that a value's JSON is longer than `max_value_storage_bytes`; the old value stays."""


class VersionConflictError(StoreError):
    """Say that `if_version` did not match; nothing was written.

    :ivar key: the key.
    :ivar expected: the version the caller asked for; 0 stands for "absent".
    :ivar actual: the version that is stored; 0 where the key is absent or expired.
    """

    def __init__(self, key: str, expected: int, actual: int) -> None:
        self.key = key
        self.expected = expected
        self.actual = actual
        wanted = f"version {expected}" if expected else "no value (version 0)"
        found = f"version {actual}" if actual else "no value (version 0)"
        super().__init__(f"key {key!r}: expected {wanted}, found {found}; read it again and decide anew")

    def __reduce__(self) -> tuple[type[VersionConflictError], tuple[str, int, int]]:
        return type(self), (self.key, self.expected, self.actual)


class BrokenReferenceError(StoreError):
    """Say that what a worker-side backend keeps of a key is gone, or is not what the row in the store says.

    Never read as absent, nor as another value. The next `set` of the key repairs it.
    """


class WorkerBackendError(StoreError):
    """Say that a worker-side backend failed, or that its storage refused or cannot be reached; the old value stays.

    With a backend that overwrites in place, a write that failed may leave a `BrokenReferenceError` behind.
    """


class AssetError(StoreError):
    """Stand above the errors that concern the registration of an asset."""


class AssetNotFoundError(AssetError, LookupError):
    """Say that no asset is registered under this name, URI or id."""


class AssetInactiveError(AssetError):
    """Say that the asset is deactivated: its state can be neither read nor written."""


class AssetConflictError(AssetError):
    """Say that a name or a URI already belongs to another asset."""


class WatcherNotFoundError(StoreError, LookupError):
    """Say that the asset has no watcher of this name."""


class ConsumerNotFoundError(StoreError, LookupError):
    """Say that no consumer of this name reads the asset."""


class JobError(StoreError):
    """Stand above what a `ResumableJob` says of its external job.

    :ivar job_id: what the runner calls the job.
    """

    def __init__(self, message: str, job_id: Any) -> None:
        self.message = message
        self.job_id = job_id
        super().__init__(message)

    def __reduce__(self) -> tuple[type[JobError], tuple[str, Any]]:
        return type(self), (self.message, self.job_id)


class JobFailedError(JobError):
    """Say that the external job failed; the next attempt submits another."""


class JobGoneError(JobError):
    """Say that the runner does not know the job any more, so that nobody can tell how it ended.

    Another is submitted only once somebody says so, with `ResumableJob.aforget`.
    """


class LeaseLostError(StoreError):
    """Say that another process claimed the watcher or took the event since, or that the lease ran out.

    Nothing was written.
    """


class SchemaError(StoreError):
    """Say that the tables are missing, or older or newer than this release understands."""


class DatabaseError(StoreError):
    """Stand above what the database itself reports; the driver's error is the cause."""


class StoreBusyError(DatabaseError):
    """Say that a lock was not granted within the lock timeout; nothing was written."""


class StoreReadOnlyError(DatabaseError):
    """Say that the database cannot be written; nothing was written."""


class StoreFullError(DatabaseError):
    """Say that no space is left; nothing was written."""


class StoreCorruptError(DatabaseError):
    """Say that the file is damaged, or no database at all."""


class StoreUnavailableError(DatabaseError):
    """Say that the database cannot be opened or reached."""


class OutcomeUnknownError(DatabaseError):
    """Say that a write was sent and its answer was lost: it happened wholly or not at all, nobody knows which.

    Read again and decide anew. To repeat it blindly could overwrite a newer value.
    """


class BlockingCallWarning(UserWarning):
    """Warn, once per call site, that a sync call blocked an event loop for the round trip."""


class InlineValueWarning(UserWarning):
    """Warn, once per key, that a value is in the store itself although a worker-side backend is configured.

    It was written where the backend was not configured; it reads as it is, and the next `set` moves it.
    """
