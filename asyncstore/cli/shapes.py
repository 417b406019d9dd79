"""What the commands show of state and assets: the keys of their JSON and the columns of their tables."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ..browsing.records import AssetSummary, EntryRecord, TaskRecord
from ..records import AssetRecord, CleanupReport, Entry, SweepReport
from ..values import JsonValue, decode
from .showing import Shape, ago, told, until

__all__ = [
    "AssetDetails",
    "AssetRow",
    "CleanedUp",
    "Deleted",
    "EntryDetails",
    "EntryRow",
    "Moved",
    "Schema",
    "Swept",
    "TaskRow",
    "ValueRow",
    "Written",
]


@dataclass(frozen=True)
class AssetRow(Shape):
    """A registered asset."""

    name: str = told("its name; its URI where none was given", "NAME")
    uri: str = told("its URI; its name where none was given", "URI")
    group: str = told("a label for people", "GROUP", cut=True)
    active: bool = told("it is not deactivated", "ACTIVE")
    created_at: datetime = told("when it was registered", "CREATED", brief=ago)
    deactivated_at: datetime | None = told("since when it is deactivated")
    extra: dict[str, JsonValue] = told("a JSON object for people")

    @classmethod
    def of(cls, record: AssetRecord) -> AssetRow:
        """Show a registration."""
        active = record.deactivated_at is None
        facts = (record.name, record.uri, record.group, active, record.created_at, record.deactivated_at)
        return AssetRow(*facts, dict(record.extra))


@dataclass(frozen=True)
class AssetDetails(AssetRow):
    """A registered asset, and how much hangs on it."""

    keys: int = told("keys of state")
    events: int = told("events in the log")
    watchers: int = told("watchers that were ever declared or claimed")
    consumers: int = told("consumers of its events")

    @classmethod
    def summing(cls, found: AssetSummary) -> AssetDetails:
        """Show a registration with its numbers."""
        facts = vars(AssetRow.of(found.record))
        return cls(
            **facts,
            keys=found.keys,
            events=found.events,
            watchers=found.watchers,
            consumers=found.consumers,
        )


@dataclass(frozen=True)
class EntryRow(Shape):
    """A key and what is known of it."""

    key: str = told("the key", "KEY")
    version: int = told("larger for every later write", "VERSION", right=True)
    size: int = told("bytes of the value's JSON, wherever it is kept", "SIZE", right=True)
    kept: str = told("`store`, or `worker` for a value that a worker-side backend keeps", "KEPT")
    updated_at: datetime = told("when it was written", "UPDATED", brief=ago)
    expires_at: datetime | None = told("from when it is absent; null: never", "EXPIRES", brief=until)
    updated_by: str | None = told("who wrote it; null where nobody said", "BY", cut=True)

    @classmethod
    def of(cls, record: EntryRecord) -> EntryRow:
        """Show a key."""
        kept = "store" if record.reference is None else "worker"
        facts = (record.key, record.version, record.size, kept, record.updated_at, record.expires_at)
        return EntryRow(*facts, record.updated_by)


@dataclass(frozen=True)
class ValueRow(EntryRow):
    """A key, what is known of it, and with `--values` its value."""

    value: JsonValue = told(
        "only with `--values`: the value; null where a worker-side backend keeps it", "VALUE", cut=True
    )

    @classmethod
    def of(cls, record: EntryRecord) -> ValueRow:
        """Show a key with its value."""
        value = None if record.text is None else decode(record.text)
        return cls(**vars(EntryRow.of(record)), value=value)


@dataclass(frozen=True)
class EntryDetails(Shape):
    """A value and what is known of it."""

    key: str = told("the key")
    value: JsonValue = told("the value")
    version: int | None = told("larger for every later write; null where the backend keeps none, as in the next three")
    updated_at: datetime | None = told("when it was written")
    expires_at: datetime | None = told("from when it is absent; null: never")
    updated_by: str | None = told("who wrote it; null where nobody said")

    @classmethod
    def of(cls, key: str, entry: Entry) -> EntryDetails:
        """Show an entry."""
        return cls(key, entry.value, entry.version, entry.updated_at, entry.expires_at, entry.updated_by)


@dataclass(frozen=True)
class Written(Shape):
    """What a write left."""

    key: str = told("the key")
    version: int | None = told("the version that was written; null where the backend keeps none")


@dataclass(frozen=True)
class Deleted(Shape):
    """How much was deleted."""

    deleted: int = told("how many keys, or assets, there were of those that were to go")


@dataclass(frozen=True)
class TaskRow(Shape):
    """A task instance that has state."""

    dag: str = told("the workflow", "DAG")
    run: str = told("the run of it", "RUN")
    task: str = told("the task within the run", "TASK")
    map_index: int = told("the instance of a mapped task; -1 for one that is not mapped", "MAP", right=True)
    keys: int = told("how many keys it has", "KEYS", right=True)
    updated_at: datetime = told("when the latest of them was written", "UPDATED", brief=ago)

    @classmethod
    def of(cls, record: TaskRecord) -> TaskRow:
        """Show a task instance."""
        scope = record.scope
        return cls(scope.dag_id, scope.run_id, scope.task_id, scope.map_index, record.keys, record.updated_at)


@dataclass(frozen=True)
class CleanedUp(Shape):
    """What a cleanup did."""

    backend: str = told("the backend")
    dry_run: bool = told("nothing was deleted")
    deleted: int | None = told("rows that went, or with `--dry-run` would; null where the backend does not say")
    objects: int = told("what a worker-side backend kept and went, too")
    skipped: str | None = told("why nothing could be done; null where it was")
    objects_skipped: str | None = told("why abandoned objects were not looked for; null where they were")

    @classmethod
    def of(cls, report: CleanupReport) -> CleanedUp:
        """Show a report."""
        facts = (report.backend, report.dry_run, report.deleted, report.objects, report.skipped)
        return cls(*facts, report.objects_skipped)


@dataclass(frozen=True)
class Swept(Shape):
    """What a sweep did."""

    backend: str = told("the backend")
    dry_run: bool = told("nothing was deleted")
    deleted: int = told("rows that went, or with `--dry-run` would")
    assets: list[str] = told("the names of their assets")
    skipped: str | None = told("why nothing could be done; null where it was")

    @classmethod
    def of(cls, report: SweepReport) -> Swept:
        """Show a report."""
        return cls(report.backend, report.dry_run, report.deleted, list(report.assets), report.skipped)


@dataclass(frozen=True)
class Schema(Shape):
    """The schema of the metastore."""

    database: str = told("the database")
    revision: str | None = told("the revision of its schema; null where there are none of our tables")
    needed: str = told("the revision that this release needs")
    current: bool = told("they are the same")


@dataclass(frozen=True)
class Moved(Shape):
    """What became of the schema."""

    database: str = told("the database")
    before: str | None = told("the revision before; null where there were none of our tables")
    after: str | None = told("the revision now; null as above")
