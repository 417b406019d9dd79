"""The four hooks that a worker-side backend defines, with their async twins."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeVar

import anyio.to_thread

from ..scopes import AssetScope, TaskScope
from ..values import JsonValue, decode, encode

__all__ = ["Kind", "WorkerHooks", "hooks_of", "in_worker_thread"]

T = TypeVar("T")
Kind = Literal["task", "asset"]


async def in_worker_thread(function: Callable[[], T], *, abandon: bool = False) -> T:
    """Run what computes or blocks off the event loop.

    :param function: what to call.
    :param abandon: on a cancellation, leave it to itself; else it is waited for, so that it changes nothing later.
    """
    return await anyio.to_thread.run_sync(function, abandon_on_cancel=abandon)


class WorkerHooks:
    """Keep values outside of the store, which holds a reference instead.

    Override a pair, or both. A sync hook runs in a thread, never on the event loop; override the async twin where there
    is a better way. What a hook raises reaches the caller, and the value before stays.

    A reference depends on `ti_id` or `asset_ref` and on `key` alone: not on the value, a time or chance. So a write
    that is repeated overwrites what the failed one left behind.

    Apache Airflow 3.3 calls the sync hooks `serialize_task_state_store_to_ref(value, key, scope)` and so on
    (https://airflow.apache.org/docs/apache-airflow/3.3.2/administration-and-deployment/task-and-asset-state-store.html).
    A subclass that defines those instead of ours is understood as well.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        """Put our hooks in front of those that have Airflow's names."""
        super().__init_subclass__(**options)
        for name, (theirs, translation) in _AIRFLOW_HOOKS.items():
            if theirs in vars(cls) and name not in vars(cls):
                setattr(cls, name, translation)

    def serialize_task_store_to_ref(self, *, value: JsonValue, key: str, ti_id: str) -> str:
        """Keep a value of a task instance.

        :param value: any JSON value but None.
        :param key: the key; any Unicode text.
        :param ti_id: `TaskScope.ti_id`, which is a safe relative path.
        :return: the reference.
        """
        return encode(value)

    def deserialize_task_store_from_ref(self, stored: str) -> JsonValue:
        """Give back a value of a task instance.

        :param stored: the reference.
        :return: the value; None, or a `LookupError` or `FileNotFoundError`, says that it is gone.
        """
        return decode(stored)

    def serialize_asset_store_to_ref(self, *, value: JsonValue, key: str, asset_ref: str) -> str:
        """Keep a value of an asset.

        :param value: any JSON value but None.
        :param key: the key; any Unicode text.
        :param asset_ref: the asset's registered name; any Unicode text.
        :return: the reference.
        """
        return encode(value)

    def deserialize_asset_store_from_ref(self, stored: str) -> JsonValue:
        """Give back a value of an asset, as `deserialize_task_store_from_ref` does of a task instance."""
        return decode(stored)

    async def aserialize_task_store_to_ref(self, *, value: JsonValue, key: str, ti_id: str) -> str:
        """Do what `serialize_task_store_to_ref` does, from a coroutine."""
        return await in_worker_thread(partial(self.serialize_task_store_to_ref, value=value, key=key, ti_id=ti_id))

    async def adeserialize_task_store_from_ref(self, stored: str) -> JsonValue:
        """Do what `deserialize_task_store_from_ref` does, from a coroutine."""
        return await in_worker_thread(partial(self.deserialize_task_store_from_ref, stored), abandon=True)

    async def aserialize_asset_store_to_ref(self, *, value: JsonValue, key: str, asset_ref: str) -> str:
        """Do what `serialize_asset_store_to_ref` does, from a coroutine."""
        return await in_worker_thread(
            partial(self.serialize_asset_store_to_ref, value=value, key=key, asset_ref=asset_ref)
        )

    async def adeserialize_asset_store_from_ref(self, stored: str) -> JsonValue:
        """Do what `deserialize_asset_store_from_ref` does, from a coroutine."""
        return await in_worker_thread(partial(self.deserialize_asset_store_from_ref, stored), abandon=True)


def _serialize_task(self: Any, *, value: JsonValue, key: str, ti_id: str) -> Any:
    return self.serialize_task_state_store_to_ref(value=value, key=key, scope=TaskScope.from_ti_id(ti_id))


def _deserialize_task(self: Any, stored: str) -> Any:
    return self.deserialize_task_state_store_from_ref(stored)


def _serialize_asset(self: Any, *, value: JsonValue, key: str, asset_ref: str) -> Any:
    return self.serialize_asset_state_store_to_ref(value=value, key=key, scope=AssetScope(name=asset_ref))


def _deserialize_asset(self: Any, stored: str) -> Any:
    return self.deserialize_asset_state_store_from_ref(stored)


_AIRFLOW_HOOKS: dict[str, tuple[str, Callable[..., Any]]] = {
    "serialize_task_store_to_ref": ("serialize_task_state_store_to_ref", _serialize_task),
    "deserialize_task_store_from_ref": ("deserialize_task_state_store_from_ref", _deserialize_task),
    "serialize_asset_store_to_ref": ("serialize_asset_state_store_to_ref", _serialize_asset),
    "deserialize_asset_store_from_ref": ("deserialize_asset_state_store_from_ref", _deserialize_asset),
}


def hooks_of(backend: type[WorkerHooks]) -> frozenset[Kind]:
    """Tell of which kinds of state a class keeps values.

    :param backend: the class.
    :return: those for which it defines a way to keep a value, sync or async.
    """
    kinds: tuple[Kind, ...] = ("task", "asset")
    names = {kind: (f"serialize_{kind}_store_to_ref", f"aserialize_{kind}_store_to_ref") for kind in kinds}
    return frozenset(
        kind for kind in kinds if any(getattr(backend, name) is not getattr(WorkerHooks, name) for name in names[kind])
    )
