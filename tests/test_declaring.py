"""Assets as they are declared, deleted and declared again; and arguments of the wrong kind."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from asyncstore import (
    Asset,
    AssetConflictError,
    AssetNotFoundError,
    AssetScope,
    ConfigurationError,
    MemoryBackend,
    MetastoreBackend,
    Store,
    TaskScope,
    connect,
)
from triggers import AssetWatcher, BaseEventTrigger, TriggerEvent

pytestmark = pytest.mark.anyio

TASK = TaskScope("dag", "run", "task")


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[Store]:
    opened = connect(backend=MemoryBackend()) if request.param == "memory" else connect("sqlite+aiosqlite:///:memory:")
    async with opened as store:
        yield store


async def test_the_dotted_path_of_the_metastore_keeps_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASYNCSTORE__DATABASE__URL", f"sqlite+aiosqlite:///{tmp_path}/elsewhere.db")
    monkeypatch.setenv("ASYNCSTORE__STATE_STORE__BACKEND", "asyncstore.MetastoreBackend")
    async with connect() as store:
        assert isinstance(store.backend, MetastoreBackend)
        assert store.backend.path == tmp_path / "elsewhere.db"


async def test_a_backend_module_that_exits_is_told_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "exiting_backend.py").write_text("raise SystemExit(3)")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(ConfigurationError, match=r"exiting_backend\.Own' cannot be imported: SystemExit: 3"):
        async with connect(backend="exiting_backend.Own"):
            pass


async def test_a_watcher_goes_on_when_another_asset_it_writes_was_deleted(store: Store) -> None:
    watched, other = Asset("watched"), Asset("other")
    claimed = await store.aclaim_watcher(watched, "w", owner="me")
    state = claimed.asset_state[other]
    await state.aset("key", 1)
    await store.adelete_asset(other)
    assert await state.aget("key") is None
    await store.adelete_asset(other)
    commit = await claimed.prepare("event", None, {other: {"key": 2}})
    await claimed.acommit(commit)
    assert await store.asset_state[other].aget("key") == 2
    await store.adelete_asset(watched)
    with pytest.raises(AssetNotFoundError):
        await claimed.asset_state.aset("key", 3)


async def test_a_task_context_resolves_every_declared_asset(store: Store) -> None:
    async with store.task_context(TASK, inlets=[Asset("a")], outlets=[Asset("a", uri="s3://a")]) as context:
        await context.asset_state.aset("key", 1)
    assert (await store.aregister(Asset("a"))).uri == "s3://a"
    with pytest.raises(AssetConflictError):
        async with store.task_context(TASK, inlets=[Asset("a")], outlets=[Asset("a", uri="s3://b")]):
            pass


async def test_reading_events_registers_nothing(store: Store) -> None:
    assert await store.events(Asset("mispelt")).alist() == []
    with pytest.raises(AssetNotFoundError):
        await store.adeactivate(AssetScope(name="mispelt"))
    with pytest.raises(AssetNotFoundError):
        await store.events(AssetScope(name="mispelt")).alist()


@pytest.mark.parametrize(("retention", "error"), [(5, TypeError), (timedelta(0), ValueError)])
async def test_a_bad_retention_is_refused_before_anything_is_called(
    store: Store, retention: Any, error: type[Exception]
) -> None:
    state = store.task_state(TASK)
    await state.aset("n", 5)
    called: list[Any] = []

    def note(value: int) -> int:
        called.append(value)
        return value

    with pytest.raises(error):
        await state.aupdate("n", note, retention=retention)
    with pytest.raises(error):
        await state.aadvance("n", 1, retention=retention)
    assert called == []


@pytest.mark.parametrize("wrong", ["orders", 5, None])
async def test_what_is_no_asset_is_a_type_error(store: Store, wrong: Any) -> None:
    with pytest.raises(TypeError):
        await store.aregister(wrong)
    with pytest.raises(TypeError):
        store.task_context(wrong)
    with pytest.raises(TypeError):
        await store.adeactivate(wrong)
    if wrong is not None:
        with pytest.raises(TypeError):
            store.events(wrong)
        with pytest.raises(TypeError):
            connect(settings=wrong)


def test_connect_says_what_a_backend_is() -> None:
    with pytest.raises(TypeError, match="dotted path"):
        connect(backend=MemoryBackend)  # type: ignore[arg-type]


async def test_generators_declare_as_lists_do(store: Store) -> None:
    class Never(BaseEventTrigger):
        async def run(self) -> AsyncIterator[TriggerEvent]:
            yield TriggerEvent(None)

    asset = Asset("a", extra={"x": [1]}, watchers=(AssetWatcher(name, Never()) for name in "xy"))  # type: ignore[arg-type]
    assert [watcher.name for watcher in asset.watchers] == ["x", "y"]
    assert asset.extra == {"x": [1]}
    async with store.task_context(TASK, inlets=(each for each in [asset])) as context:  # type: ignore[arg-type]
        assert await context.asset_state.akeys() == []
