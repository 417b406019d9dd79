"""The options of worker-side backends, and of the one that keeps values in object storage."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from asyncstore.settings.section import Section

__all__ = ["CommonIoSettings", "CommonSettings", "WorkersSettings"]

_MAX_INTEGER = 2**63 - 1
_PATH: dict[str, Any] = {"allowed": "the dotted path of a BaseStoreBackend, such as 'package.module.Class'"}


class WorkersSettings(Section):
    """Say which backend keeps the values themselves, on the worker's side."""

    state_backend: str | None = Field(
        default=None,
        pattern=r"^\S+$",
        description=(
            "Dotted path of the `BaseStoreBackend` whose hooks keep values where the worker is; the store then holds "
            "references. `asyncstore.ObjectStorageBackend` is ours. Without one values are in the store."
        ),
        json_schema_extra=_PATH,
    )
    state_store_backend: str | None = Field(
        default=None,
        pattern=r"^\S+$",
        validate_default=True,
        description="Another spelling of `state_backend`.",
        json_schema_extra=_PATH,
    )

    @field_validator("state_store_backend")
    @classmethod
    def _check_spellings(cls, value: str | None, info: ValidationInfo) -> str | None:
        other = info.data.get("state_backend")
        if value is not None and other not in {None, value}:
            context = {"other": "state_backend", "relation": "the same as"}
            raise PydanticCustomError("above_option", "must be the same as {other}", context)
        return value

    @property
    def backend(self) -> str | None:
        """Return the dotted path, by whichever spelling; None for none."""
        return self.state_backend or self.state_store_backend


class CommonIoSettings(Section):
    """Say where `ObjectStorageBackend` keeps values, and which."""

    state_store_objectstorage_path: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z][A-Za-z0-9+.\-]*://[^\x00-\x1f\x7f]*$",
        description=(
            "Base URL: `s3://bucket/prefix/`, `gs://`, `az://container/`, `file:///folder` or `memory:///`. The user "
            "part names a connection: `s3://lake@bucket/` takes the JSON object of `ASYNCSTORE_CONN_LAKE`, and without "
            "one the cloud's usual environment counts."
        ),
        json_schema_extra={"allowed": "a URL such as 's3://connection@bucket/prefix/' or 'file:///var/lib/state'"},
    )
    state_store_objectstorage_threshold: int = Field(
        default=0,
        ge=0,
        le=_MAX_INTEGER,
        description="Bytes of a value's JSON from which it goes to object storage; 0 = every value.",
    )
    state_store_objectstorage_compression: str | None = Field(
        default=None,
        pattern=r"^\w+$",
        description=(
            "How objects are compressed: a name that fsspec knows, such as `gzip`, `bz2`, `lzma`, and with their "
            "packages `zstd`, `lz4`, `snappy`. Older objects stay readable when it changes."
        ),
        json_schema_extra={"allowed": "a compression that fsspec knows, such as 'gzip'"},
    )
    state_store_objectstorage_abandoned_days: float = Field(
        default=1.0,
        ge=0,
        le=100_000,
        description=(
            "Days from which garbage collection removes an object that no row refers to: what crashed between its "
            "object and its row left it behind. More than any transaction stays open; 0 = such objects stay."
        ),
    )


class CommonSettings(Section):
    """Group what several parts have in common."""

    io: CommonIoSettings = Field(default_factory=CommonIoSettings, description="Object storage.")
