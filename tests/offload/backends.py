"""Worker-side backends as a third party would write them."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from asyncstore import AssetScope, BaseStoreBackend, JsonValue, TaskScope


class PassThrough(BaseStoreBackend):
    """The operations of a backend that only lends its hooks."""

    async def aget(self, *args: Any, **kwargs: Any) -> str | None:
        raise NotImplementedError

    async def aset(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError

    async def adelete(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError

    async def aclear(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError


class DictBackend(PassThrough):
    """Both hook pairs, sync; keeps objects in a dict that all instances share, with its keys in another order."""

    objects: dict[str, str] = {}  # noqa: RUF012 - shared, as a bucket is
    threads: list[int] = []  # noqa: RUF012
    removed: list[tuple[Any, ...]] = []  # noqa: RUF012

    def _keep(self, at: str, value: JsonValue) -> str:
        self.threads.append(threading.get_ident())
        self.objects[at] = json.dumps(value, sort_keys=True)
        return at

    def _give(self, at: str) -> JsonValue:
        self.threads.append(threading.get_ident())
        found: JsonValue = json.loads(self.objects[at])
        return found

    def serialize_task_store_to_ref(self, *, value: JsonValue, key: str, ti_id: str) -> str:
        return self._keep(f"dict://task/{ti_id}/{key}", value)

    def deserialize_task_store_from_ref(self, stored: str) -> JsonValue:
        return self._give(stored)

    def serialize_asset_store_to_ref(self, *, value: JsonValue, key: str, asset_ref: str) -> str:
        return self._keep(f"dict://asset/{asset_ref}/{key}", value)

    def deserialize_asset_store_from_ref(self, stored: str) -> JsonValue:
        return self._give(stored)

    def delete(self, scope: Any, key: str, *, session: Any = None) -> None:
        self.removed.append((scope, key))

    def clear(self, scope: Any, *, all_map_indices: bool = False, session: Any = None) -> None:
        self.removed.append((scope, all_map_indices))


class AirflowBackend(PassThrough):
    """Hooks as Airflow 3.3 names them, which are given the scope."""

    objects: dict[str, str] = {}  # noqa: RUF012

    def serialize_task_state_store_to_ref(self, *, value: JsonValue, key: str, scope: TaskScope) -> str:
        at = f"task/{scope.dag_id}/{scope.run_id}/{scope.task_id}/{scope.map_index}/{key}"
        self.objects[at] = json.dumps(value)
        return at

    def deserialize_task_state_store_from_ref(self, stored: str) -> JsonValue:
        found: JsonValue = json.loads(self.objects[stored])
        return found

    def serialize_asset_state_store_to_ref(self, *, value: JsonValue, key: str, scope: AssetScope) -> str:
        at = f"asset/{scope.name or scope.uri}/{key}"
        self.objects[at] = json.dumps(value)
        return at

    def deserialize_asset_state_store_from_ref(self, stored: str) -> JsonValue:
        return self.deserialize_task_state_store_from_ref(stored)


class TaskOnly(PassThrough):
    """One pair of hooks, with the async twins only."""

    objects: dict[str, JsonValue] = {}  # noqa: RUF012

    async def aserialize_task_store_to_ref(self, *, value: JsonValue, key: str, ti_id: str) -> str:
        self.objects[f"{ti_id}/{key}"] = value
        return f"{ti_id}/{key}"

    async def adeserialize_task_store_from_ref(self, stored: str) -> JsonValue:
        return self.objects.get(stored)


class NoHooks(PassThrough):
    """Nothing that keeps a value."""


@contextmanager
def emptied() -> Generator[None]:
    """Empty what the classes share, before a test, whoever ran before it, and after."""
    shared: list[Any] = [DictBackend.objects, DictBackend.threads, DictBackend.removed]
    shared += [AirflowBackend.objects, TaskOnly.objects]
    for each in shared:
        each.clear()
    yield
    for each in shared:
        each.clear()
