"""What state belongs to: a task instance or an asset, and the names they go by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast, final
from urllib.parse import quote, unquote

from .values import JsonValue, decode, encode

__all__ = ["JOB_PREFIX", "Asset", "AssetScope", "Scope", "TaskScope", "Watcher", "check_key", "check_text", "scope_of"]

MAX_ID_BYTES = 250
MAX_KEY_BYTES = 512
MAX_ASSET_BYTES = 1500

#: What the keys begin with under which the state of a task says what is known of its external jobs.
JOB_PREFIX = "resumable-job/"


def check_text(text: object, what: str, limit: int) -> None:
    """Refuse what cannot be a key, an id or a name on some backend.

    :param text: the candidate.
    :param what: what it is, for the message.
    :param limit: the largest length in bytes of UTF-8.
    :raises TypeError: it is no string.
    :raises ValueError: it is empty or too long, or holds NUL or a lone surrogate.
    """
    if not isinstance(text, str):
        raise TypeError(f"{what} must be a string, not {type(text).__name__}")
    if text.isascii():
        length = len(text)
    else:
        try:
            length = len(text.encode())
        except UnicodeEncodeError:
            raise ValueError(
                f"{what} {text!r} holds a lone surrogate, which is no Unicode text; "
                "percent-encode bytes that are not UTF-8"
            ) from None
    if not 1 <= length <= limit:
        raise ValueError(f"{what} must be 1 to {limit} bytes of UTF-8, not {length}")
    if "\0" in text:
        raise ValueError(f"{what} {text!r} holds a NUL character")


def check_key(key: object) -> None:
    """Refuse what is no key: keys are 1 to 512 bytes of UTF-8 without NUL.

    :param key: the candidate.
    :raises TypeError: it is no string.
    :raises ValueError: it is empty or too long, or holds NUL or a lone surrogate.
    """
    check_text(key, "key", MAX_KEY_BYTES)


@dataclass(frozen=True, slots=True)
class TaskScope:
    """Name one task instance.

    :param dag_id: the workflow, 1 to 250 bytes of UTF-8, as the next two.
    :param run_id: the run of it.
    :param task_id: the task within the run.
    :param map_index: the instance of a mapped task, from 0; -1 for a task that is not mapped.
    :raises TypeError: a part is of another type.
    :raises ValueError: a part is empty or too long, or holds NUL or a lone surrogate.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1

    def __post_init__(self) -> None:
        check_text(self.dag_id, "dag_id", MAX_ID_BYTES)
        check_text(self.run_id, "run_id", MAX_ID_BYTES)
        check_text(self.task_id, "task_id", MAX_ID_BYTES)
        if type(self.map_index) is not int:
            raise TypeError(f"map_index must be an int, not {type(self.map_index).__name__}")
        if not -1 <= self.map_index < 2**31:
            raise ValueError(f"map_index must be -1 (not mapped) or a 32-bit index from 0, not {self.map_index}")

    @property
    def ti_id(self) -> str:
        """Return the canonical id of the task instance, which is a safe relative path as well.

        The four parts, percent-encoded, joined by `/`. A part made only of dots, and a dag named `assets`,
        are encoded too, so that no two scopes share an id and none leaves its folder.
        """
        dag = "%61ssets" if self.dag_id == "assets" else _segment(self.dag_id)
        return f"{dag}/{_segment(self.run_id)}/{_segment(self.task_id)}/{self.map_index}"

    @classmethod
    def from_ti_id(cls, ti_id: str) -> TaskScope:
        """Give the task instance that a `ti_id` names.

        :raises ValueError: it is none.
        """
        dag_id, run_id, task_id, map_index = (unquote(part, errors="strict") for part in ti_id.split("/"))
        return cls(dag_id, run_id, task_id, int(map_index))

    def __str__(self) -> str:
        return f"task {self.ti_id}"


def _segment(part: str) -> str:
    quoted = quote(part, safe="")
    return quoted if quoted.strip(".") else quoted.replace(".", "%2E")


@dataclass(frozen=True, slots=True)
class AssetScope:
    """Point at a registered asset, without registering it.

    Give `asset_id` where the metastore is at hand, else `name` or `uri`. The id decides where it is given,
    then the name; a URI given beside a name must be that asset's.

    :param asset_id: the positive integer of the metastore.
    :param name: the registered name.
    :param uri: the registered URI.
    :raises TypeError: a part is of another type.
    :raises ValueError: nothing is given, or a part cannot be an id or a name.
    """

    asset_id: int | None = None
    name: str | None = None
    uri: str | None = None

    def __post_init__(self) -> None:
        if self.asset_id is None and self.name is None and self.uri is None:
            raise ValueError("an AssetScope needs an asset_id, a name or a uri")
        if self.asset_id is not None and type(self.asset_id) is not int:
            raise TypeError(f"asset_id must be an int, not {type(self.asset_id).__name__}")
        if self.asset_id is not None and not 0 < self.asset_id < 2**63:
            raise ValueError(f"asset_id must be a positive 64-bit integer, not {self.asset_id}")
        if self.name is not None:
            check_text(self.name, "asset name", MAX_ASSET_BYTES)
        if self.uri is not None:
            check_text(self.uri, "asset uri", MAX_ASSET_BYTES)

    def __str__(self) -> str:
        if self.name is not None:
            return f"asset {self.name!r}"
        return f"asset with uri {self.uri!r}" if self.uri is not None else f"asset with id {self.asset_id}"


Scope = TaskScope | AssetScope


class Watcher(Protocol):
    """Tie something that watches to an asset; `triggers.AssetWatcher` is one."""

    @property
    def name(self) -> str:
        """Return the name, unique among the watchers of one asset."""
        ...


@final
class Asset:
    """Describe a thing outside the program that changes over time, known by a name and a URI.

    Each of the two defaults to the other; `Asset("orders", uri="s3://bucket/orders")` is the usual form.
    Two assets with the same name are the same asset: equal, and equal in hash.

    :param name: the name, up to 1,500 bytes of UTF-8, as the URI.
    :param uri: where it is. Any text; nothing opens it.
    :param group: a label for people; says nothing about identity, and stays what it was at the first registration.
    :param extra: a JSON object for people; as `group`.
    :param watchers: what watches it (see `triggers.AssetWatcher`).
    :raises TypeError: a part is of another type.
    :raises ValueError: neither name nor URI is given, a part cannot be a name, or two watchers share a name.
    """

    __slots__ = ("_extra_json", "explicit_name", "explicit_uri", "group", "watchers")

    explicit_name: str | None
    explicit_uri: str | None
    group: str
    watchers: tuple[Watcher, ...]
    _extra_json: str

    def __init__(
        self,
        name: str | None = None,
        uri: str | None = None,
        *,
        group: str = "asset",
        extra: Mapping[str, JsonValue] | None = None,
        watchers: Sequence[Watcher] = (),
    ) -> None:
        if name is None and uri is None:
            raise ValueError("an Asset needs a name or a uri")
        if name is not None:
            check_text(name, "asset name", MAX_ASSET_BYTES)
        if uri is not None:
            check_text(uri, "asset uri", MAX_ASSET_BYTES)
        check_text(group, "asset group", MAX_ASSET_BYTES)
        watchers = tuple(watchers)
        names = [watcher.name for watcher in watchers]
        if len(set(names)) < len(names):
            twice = next(each for each in names if names.count(each) > 1)
            raise ValueError(f"two watchers of one asset are named {twice!r}; a watcher's name is its identity")
        put = object.__setattr__
        put(self, "explicit_name", name)
        put(self, "explicit_uri", uri)
        put(self, "group", group)
        put(self, "_extra_json", encode(dict(extra or {})))
        put(self, "watchers", tuple(watchers))

    @property
    def name(self) -> str:
        """Return the name; the URI where none was given."""
        return self.explicit_name if self.explicit_name is not None else self.explicit_uri or ""

    @property
    def uri(self) -> str:
        """Return the URI; the name where none was given."""
        return self.explicit_uri if self.explicit_uri is not None else self.name

    @property
    def extra(self) -> dict[str, JsonValue]:
        """Return `extra`, a copy."""
        kept = decode(self._extra_json)
        return kept if isinstance(kept, dict) else {}

    @property
    def extra_json(self) -> str:
        """Return `extra` as JSON text."""
        return self._extra_json

    def __reduce__(self) -> tuple[Callable[..., Asset], tuple[object, ...]]:
        parts = self.explicit_name, self.explicit_uri, self.group, self.extra_json, self.watchers
        return _asset, parts

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"an Asset is immutable; build a new one to change {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"an Asset is immutable; build a new one without {name!r}")

    def __eq__(self, other: object) -> bool:
        return self.name == other.name if isinstance(other, Asset) else NotImplemented

    def __hash__(self) -> int:
        return hash((Asset, self.name))

    def __repr__(self) -> str:
        if self.explicit_name is None:
            return f"Asset(uri={self.explicit_uri!r})"
        return f"Asset({self.name!r})" if self.explicit_uri is None else f"Asset({self.name!r}, uri={self.uri!r})"


def _asset(name: str | None, uri: str | None, group: str, extra_json: str, watchers: tuple[Watcher, ...]) -> Asset:
    extra = cast("dict[str, JsonValue]", decode(extra_json))
    return Asset(name, uri, group=group, extra=extra, watchers=watchers)


def scope_of(asset: Asset | AssetScope) -> AssetScope:
    """Point at an asset by its name, or by its URI where it has none, without registering it.

    :param asset: the asset.
    :raises TypeError: it is neither an `Asset` nor an `AssetScope`.
    """
    if isinstance(asset, AssetScope):
        return asset
    if not isinstance(asset, Asset):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"an Asset or AssetScope is needed, not {type(asset).__name__}: {asset!r}")
    return AssetScope(name=asset.explicit_name) if asset.explicit_name else AssetScope(uri=asset.explicit_uri)
