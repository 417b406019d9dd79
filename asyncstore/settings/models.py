"""Every option with its default, its bounds and its description."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from asyncstore.settings.section import Section
from asyncstore.settings.showing import mask_password
from asyncstore.settings.workers import CommonSettings, WorkersSettings

__all__ = ["ConsumerSettings", "DatabaseSettings", "Settings", "StateStoreSettings", "TriggererSettings"]

# Beyond these, dates, SQL integers and the 32-bit milliseconds of both databases' lock timeouts overflow.
_MAX_DAYS = 100_000
_MAX_INTEGER = 2**63 - 1
_MAX_LOCK_SECONDS = 2_147_483


class DatabaseSettings(Section):
    """Say where the metastore is and how carefully it commits."""

    url: str = Field(
        default="sqlite+aiosqlite:///asyncstore.db",
        pattern=r"^[A-Za-z][A-Za-z0-9_+]*://[^\x00-\x1f\x7f]*$",
        description=(
            "URL of the metastore: `sqlite+aiosqlite:///path.db`, where a relative path is relative to the working "
            "directory; or `postgresql+asyncpg://user:password@host:5432/database`, with what libpq takes behind a `?`."
        ),
        json_schema_extra={
            "allowed": "a URL such as 'sqlite+aiosqlite:///asyncstore.db' or 'postgresql+asyncpg://user@host/database'"
        },
    )
    lock_timeout: float = Field(
        default=5.0,
        ge=0.001,
        le=_MAX_LOCK_SECONDS,
        description=(
            "Seconds an operation waits for a lock that another connection holds before it fails with "
            "`StoreBusyError`. Both databases count whole milliseconds, so one millisecond is the least."
        ),
    )
    durability: Literal["full", "normal"] = Field(
        default="full",
        description=(
            "What a commit survives. `full`: every commit survives a loss of power (SQLite `synchronous=FULL`, "
            "PostgreSQL `synchronous_commit` as the server has it). `normal`: commits survive a crash of the process, "
            "the last ones may be lost with the power (PostgreSQL `synchronous_commit=off`); faster."
        ),
    )
    operation_timeout: float = Field(
        default=30.0,
        ge=0.1,
        le=_MAX_LOCK_SECONDS,
        description=(
            "Seconds an operation on PostgreSQL may take, connecting and every retry included. Reads, and writes that "
            "surely did not run, are retried that long while the server restarts or fails over; then the operation "
            "fails with `StoreUnavailableError`, or with `OutcomeUnknownError` where a write was sent."
        ),
    )
    pool_size: int = Field(
        default=10,
        ge=1,
        le=1000,
        description=(
            "Connections to PostgreSQL that one event loop opens at most beside two for batches of reads, one for "
            "batches of writes and one that listens; also how many threads may make sync calls at the same moment."
        ),
    )
    pooler: Literal["none", "session", "transaction"] = Field(
        default="none",
        description=(
            "What stands between here and PostgreSQL. `session`: a pooler such as pgbouncer in session mode, which "
            "refuses what connections are otherwise set up with at their beginning. `transaction`: one in transaction "
            "mode; then there are no prepared statements and no LISTEN, and each operation takes more round trips."
        ),
    )

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, mask_password(value) if name == "url" else value


class StateStoreSettings(Section):
    """Say which backend keeps the state, for how long and how large a value may be."""

    backend: str | None = Field(
        default=None,
        pattern=r"^\S+$",
        description=(
            "Dotted path of the `BaseStoreBackend` that keeps the state. Without one it is kept in the metastore."
        ),
        json_schema_extra={"allowed": "the dotted path of a BaseStoreBackend, such as 'package.module.Class'"},
    )
    default_retention_days: float = Field(
        default=30.0,
        ge=0,
        le=_MAX_DAYS,
        description=(
            "Days until a task's value expires if the write names no retention; 0 = never. Computed at the "
            "write, so a change never affects values already written. Asset state does not expire."
        ),
    )
    clear_on_success: bool = Field(
        default=False,
        description="Whether a task's state is cleared when the task succeeds. Asset state never is.",
    )
    state_cleanup_batch_size: int = Field(
        default=0,
        ge=0,
        le=_MAX_INTEGER,
        description="Rows that garbage collection deletes per commit; 0 = all in one statement.",
    )
    max_value_storage_bytes: int = Field(
        default=65_535,
        ge=0,
        le=_MAX_INTEGER,
        description=(
            "Bytes of UTF-8 that a value's JSON may take in the store; a longer one is refused with "
            "`ValueTooLargeError`. 0 = no limit."
        ),
    )
    asset_grace_days: float = Field(
        default=7.0,
        ge=0,
        le=_MAX_DAYS,
        description=(
            "Days that the state of a deactivated asset is kept, unreadable, before a sweep deletes it. "
            "Activating the asset within them brings the state back."
        ),
    )
    keep_events_days: float = Field(
        default=0.0,
        ge=0,
        le=_MAX_DAYS,
        description=(
            "Days until a pruning of events deletes one; 0 = never. What a consumer has not done stays, and so do the "
            "keys of events."
        ),
    )
    keep_events_count: int = Field(
        default=0,
        ge=0,
        le=_MAX_INTEGER,
        description=(
            "Events of each asset that a pruning of events leaves at most, the latest ones; 0 = all. What a consumer "
            "has not done stays beside them."
        ),
    )


class ConsumerSettings(Section):
    """Say how events are delivered to consumers and their handlers, and what becomes of those that fail."""

    lease: float = Field(
        default=60.0,
        ge=0.1,
        le=86_400,
        description=(
            "Seconds after which the events that a reader has in hand are delivered to others, unless it renewed its "
            "lease: how long a crash delays them."
        ),
    )
    heartbeat: float = Field(
        default=15.0,
        ge=0.01,
        le=43_200,
        validate_default=True,
        description=(
            "Seconds between two renewals of a reader's lease, one statement for all it has in hand; at most half of "
            "`lease`. A handler that blocks the event loop for longer than the lease loses its event."
        ),
    )
    poll_interval: float = Field(
        default=0.3,
        ge=0.001,
        le=3_600,
        description=(
            "Seconds between two looks for new events where nobody tells of them; those of the same process, and on "
            "PostgreSQL those of others, are told of."
        ),
    )
    prefetch: int = Field(
        default=50,
        ge=1,
        le=10_000,
        description=(
            "Events that a reader takes at once at most. It begins with one, and takes more only while it handles them "
            "quickly, so that what is slow is shared with other readers."
        ),
    )
    max_attempts: int = Field(
        default=5,
        ge=0,
        le=1_000_000,
        description="Failures of an event until it is delivered no more; 0 = any number.",
    )
    on_exhausted: Literal["keep", "skip"] = Field(
        default="keep",
        description=(
            "What becomes of an event that failed `max_attempts` times. `keep`: it is set aside with its traceback, to "
            "be listed and tried again. `skip`: it counts as done."
        ),
    )
    retry_delay: float = Field(
        default=1.0,
        ge=0.001,
        le=86_400,
        description=(
            "Seconds before an event that failed is delivered again; each further failure doubles the delay, up to "
            "`retry_delay_max`."
        ),
    )
    retry_delay_max: float = Field(
        default=300.0,
        ge=0.001,
        le=86_400,
        validate_default=True,
        description="Seconds that the delay before another attempt never exceeds; at least `retry_delay`.",
    )

    @field_validator("heartbeat")
    @classmethod
    def _check_heartbeat(cls, value: float, info: ValidationInfo) -> float:
        if value > info.data.get("lease", 2 * value) / 2:
            context = {"other": "lease", "relation": "at most half of"}
            raise PydanticCustomError("above_option", "must be at most half of {other}", context)
        return value

    @field_validator("retry_delay_max")
    @classmethod
    def _check_delays(cls, value: float, info: ValidationInfo) -> float:
        if value < info.data.get("retry_delay", value):
            raise PydanticCustomError("below_option", "must be at least {other}", {"other": "retry_delay"})
        return value


class TriggererSettings(Section):
    """Say how a triggerer restarts its watchers, drains and cleans up."""

    restart_delay: float = Field(
        default=1.0,
        gt=0,
        description=(
            "Seconds before a watcher that raised is restarted for the first time; each failure after it "
            "doubles the delay, up to `restart_delay_max`."
        ),
    )
    restart_delay_max: float = Field(
        default=300.0,
        gt=0,
        validate_default=True,
        description="Seconds that the delay before a restart never exceeds; at least `restart_delay`.",
    )
    healthy_after: float = Field(
        default=60.0,
        ge=0,
        description="Seconds a watcher runs without raising until its next failure counts as the first.",
    )
    drain_timeout: float = Field(
        default=4.0,
        ge=0,
        description=(
            "Seconds that a shutdown takes at most: watchers are cancelled at their `await`, the commit in hand is "
            "finished and `cleanup()` is called; what is not done by then is given up."
        ),
    )
    capacity: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="Watchers that one triggerer runs at most. Triggerers share the watchers by their capacities.",
    )
    lease: float = Field(
        default=15.0,
        ge=0.05,
        le=86_400,
        description=(
            "Seconds that a triggerer may be silent, by the database's clock, before others take its watchers over. "
            "Then it can commit nothing more."
        ),
    )
    heartbeat_interval: float = Field(
        default=5.0,
        ge=0.01,
        validate_default=True,
        description="Seconds between two renewals of the lease, one for all of its watchers; at most half of `lease`.",
    )
    crash_loop_after: int = Field(
        default=5,
        ge=1,
        description=(
            "Failures of a watcher in a row, none of them after `healthy_after`, from which it counts as crash-looping."
        ),
    )
    block_warning: float = Field(
        default=1.0,
        ge=0,
        description=(
            "Seconds that a watcher may keep the event loop from everybody else before the log names it, with its "
            "stack; 0 = never."
        ),
    )
    cleanup_interval: float = Field(
        default=0.0,
        ge=0,
        description=(
            "Seconds between two runs of garbage collection and the sweep of assets inside a triggerer; 0 = never."
        ),
    )
    shared_stream_buffer: int = Field(
        default=1000,
        ge=1,
        le=_MAX_INTEGER,
        description=(
            "Events of a source that a shared stream keeps for subscribers slower than the fastest, and that an "
            "acknowledging one has unacknowledged at most. Who falls further behind catches up by itself; nothing is "
            "lost."
        ),
    )
    shared_stream_patience: float = Field(
        default=30.0,
        ge=0,
        description=(
            "Seconds that an acknowledging stream with `shared_stream_buffer` unacknowledged events waits for a "
            "watcher that answers nothing; more than a watcher takes for one event. After that it fails what there is "
            "no room for, which the source delivers again, until it answers: a buffer's worth in each such time."
        ),
    )

    @field_validator("heartbeat_interval")
    @classmethod
    def _check_heartbeat(cls, value: float, info: ValidationInfo) -> float:
        if value > info.data.get("lease", 2 * value) / 2:
            raise PydanticCustomError("above_option", "must be at most half of {other}", {"other": "lease"})
        return value

    @field_validator("restart_delay_max")
    @classmethod
    def _check_order(cls, value: float, info: ValidationInfo) -> float:
        # An invalid `restart_delay` is missing here; its own error is enough.
        if value < info.data.get("restart_delay", value):
            raise PydanticCustomError("below_option", "must be at least {other}", {"other": "restart_delay"})
        return value


class Settings(Section):
    """Hold every option of asyncstore; without arguments, the defaults."""

    database: DatabaseSettings = Field(default_factory=DatabaseSettings, description="The metastore.")
    state_store: StateStoreSettings = Field(default_factory=StateStoreSettings, description="Task and asset state.")
    workers: WorkersSettings = Field(default_factory=WorkersSettings, description="Values that stay with the worker.")
    common: CommonSettings = Field(default_factory=CommonSettings, description="What several parts have in common.")
    consumers: ConsumerSettings = Field(default_factory=ConsumerSettings, description="The readers of events.")
    triggerer: TriggererSettings = Field(
        default_factory=TriggererSettings, description="The process that runs watchers."
    )
