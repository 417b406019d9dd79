from __future__ import annotations

import inspect
from typing import Any

import pytest

from asyncstore import (
    AssetStoreAccessor,
    AssetStoreAccessors,
    BaseStoreBackend,
    Consumer,
    DeliveredEvent,
    EventLog,
    MemoryBackend,
    MetastoreBackend,
    ResumableJob,
    Store,
    TaskContext,
    TaskStoreAccessor,
)

#: What makes sense on a loop only.
ASYNC_ONLY = {"awatch", "aclaim_watcher"}
#: What the user of a `ResumableJob` writes, and only the job calls.
HOOKS = {"submit", "status", "poll", "result", "stop"}
FOUR = {"aget", "aset", "adelete", "aclear"}
ACCESSORS: list[type[Any]] = [TaskStoreAccessor, AssetStoreAccessor, AssetStoreAccessors]


def operations(kind: type[Any]) -> list[str]:
    """The public async operations of a class."""
    return [
        name
        for name, member in inspect.getmembers(kind)
        if not name.startswith("_") and (inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member))
    ]


def shape(kind: type[Any], name: str) -> tuple[list[tuple[Any, ...]], Any]:
    signature = inspect.signature(getattr(kind, name))
    parameters = [(each.name, each.kind, each.default, each.annotation) for each in signature.parameters.values()]
    return parameters, signature.return_annotation


@pytest.mark.parametrize("kind", [*ACCESSORS, Store, EventLog, Consumer, DeliveredEvent, ResumableJob])
def test_every_async_operation_has_a_sync_twin_of_the_same_shape(kind: type[Any]) -> None:
    found = [name for name in operations(kind) if name not in ASYNC_ONLY | HOOKS]
    assert len(found) >= 1
    for name in found:
        assert name.startswith("a"), name
        twin = name.removeprefix("a")
        assert inspect.isfunction(getattr(kind, twin, None)), f"{kind.__name__}.{name} has no sync twin"
        assert not inspect.iscoroutinefunction(getattr(kind, twin))
        assert shape(kind, twin) == shape(kind, name), f"{kind.__name__}.{name}"
        assert (getattr(kind, twin).__doc__ or "").startswith(f"Do what `{name}` does"), f"{kind.__name__}.{twin}"


@pytest.mark.parametrize("kind", ACCESSORS)
def test_no_sync_operation_is_without_an_async_twin(kind: type[Any]) -> None:
    public = {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}
    sync = public - set(operations(kind)) - {"awatch"}
    assert {f"a{name}" for name in sync} == set(operations(kind)) - ASYNC_ONLY
    assert len(sync) == 10


@pytest.mark.parametrize("kind", [BaseStoreBackend, MemoryBackend, MetastoreBackend])
def test_the_four_of_a_backend_have_sync_shims_of_the_same_shape(kind: type[Any]) -> None:
    for name in FOUR:
        assert shape(kind, name.removeprefix("a")) == shape(kind, name)


@pytest.mark.parametrize("kind", [BaseStoreBackend, Store, TaskContext])
def test_async_context_managers_are_plain_ones_too(kind: type[Any]) -> None:
    for name in ("enter", "exit"):
        assert shape(kind, f"__{name}__") == shape(kind, f"__a{name}__")


@pytest.mark.parametrize("kind", [MemoryBackend, MetastoreBackend])
def test_backends_keep_the_signatures_of_the_base(kind: type[Any]) -> None:
    for name in operations(BaseStoreBackend):
        if name not in {"aopen", "aclose"}:
            assert shape(kind, name) == shape(BaseStoreBackend, name), name
