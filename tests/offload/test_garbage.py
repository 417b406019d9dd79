"""Objects behind rows that went, and objects that no row ever referred to."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from asyncstore import (
    Asset,
    BaseStoreBackend,
    CleanupBatch,
    ManualClock,
    MemoryBackend,
    MetastoreBackend,
    ObjectStorageBackend,
    Settings,
    Store,
    TaskScope,
    WorkersSettings,
    connect,
)
from asyncstore.offload.abc import Place
from asyncstore.offload.layer import OffloadingCore
from asyncstore.settings import CommonIoSettings, CommonSettings
from tests.conformance.backends import MinimalBackend
from tests.offload.backends import DictBackend
from tests.offload.support import TASK, open_with, path
from tests.offload.test_object_storage import objects

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)
ORDERS = Asset("orders", uri="s3://orders")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime.now(UTC))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "objects"


def open_on(root: Path, backend: BaseStoreBackend, clock: ManualClock) -> Store:
    io = CommonIoSettings(state_store_objectstorage_path=root.as_uri())
    workers = WorkersSettings(state_backend=path(ObjectStorageBackend))
    return connect(backend=backend, settings=Settings(workers=workers, common=CommonSettings(io=io)), clock=clock)


@pytest.fixture(params=["memory", "sqlite"])
async def backend(
    request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock
) -> AsyncGenerator[BaseStoreBackend]:
    if request.param == "memory":
        yield MemoryBackend(clock=clock)
    else:
        async with MetastoreBackend(f"sqlite+aiosqlite:///{tmp_path / 'state.db'}", clock=clock) as backend:
            yield backend


@pytest.fixture
async def store(root: Path, backend: BaseStoreBackend, clock: ManualClock) -> AsyncGenerator[Store]:
    async with open_on(root, backend, clock) as store:
        yield store


async def abandon(store: Store, key: str, value: Any, scope: TaskScope = TASK) -> None:
    """Leave an object behind, as a process does that is killed before its row is there."""
    core = store.core
    assert isinstance(core, OffloadingCore)
    await core.keeper.akeep(Place("task", scope.ti_id, key), value)


async def test_the_objects_behind_expired_rows_go_with_them(store: Store, root: Path, clock: ManualClock) -> None:
    state = store.task_state(TASK)
    await state.aset_many({"a": 1, "b": 2}, retention=HOUR)
    await state.aset("c", 3)
    kept = [each for each in objects(root) if "/c/" in each]
    clock.advance(HOUR)
    batches: list[CleanupBatch] = []
    report = await store.acleanup(dry_run=True, on_batch=batches.append)
    assert (report.deleted, report.objects) == (2, 2)
    assert len(objects(root)) == 3
    assert sorted([*(each for batch in batches for each in batch.objects), *kept]) == objects(root)
    assert (await store.acleanup(dry_run=True)).objects == 2
    report = await store.acleanup()
    assert (report.deleted, report.objects) == (2, 2)
    assert objects(root) == kept
    assert await state.aget("c") == 3
    assert (await store.acleanup()).objects == 0


async def test_the_objects_of_runs_and_assets_go_with_them(store: Store, root: Path) -> None:
    await store.task_state(TASK).aset("a", 1)
    await store.asset_state[ORDERS].aset("a", 1)
    await store.adelete_run("dag", "run")
    assert [each.partition("/")[0] for each in objects(root)] == ["assets"]
    await store.adelete_asset(ORDERS)
    assert objects(root) == []


async def test_what_no_row_refers_to_goes_when_it_is_old(store: Store, root: Path, clock: ManualClock) -> None:
    long = TaskScope("d" * 250, "r" * 250, "ä" * 125)
    states = [store.task_state(TASK), store.task_state(long)]
    for state in states:
        await state.aset("key", "kept")
        await state.aset("k" * 512, "kept")
    await store.asset_state[Asset(uri=ORDERS.uri)].aset("key", "kept")
    await store.aregister(ORDERS)  # the asset has another name from now on
    await store.aregister(Asset(ORDERS.uri, uri="s3://others"))  # and its old one is another's
    before = objects(root)
    for scope in (TASK, long):
        for key in ("key", "new", "k" * 512):
            await abandon(store, key, "abandoned", scope)
    assert (await store.acleanup()).objects == 0
    clock.advance(timedelta(days=2))
    batches: list[CleanupBatch] = []
    assert (await store.acleanup(dry_run=True, on_batch=batches.append)).objects == 6
    assert len(objects(root)) == len(before) + 6
    assert {each for batch in batches for each in batch.objects} == set(objects(root)) - set(before)
    assert (await store.acleanup()).objects == 6
    assert objects(root) == before
    assert await states[1].aget("k" * 512) == "kept"
    assert await store.asset_state[ORDERS].aget("key") == "kept"


async def test_a_resting_asset_keeps_its_objects(store: Store, root: Path, clock: ManualClock) -> None:
    await store.asset_state[ORDERS].aset("key", 1)
    await store.adeactivate(ORDERS)
    clock.advance(timedelta(days=2))
    assert (await store.acleanup()).objects == 0
    await store.aactivate(ORDERS)
    assert await store.asset_state[ORDERS].aget("key") == 1
    await store.adeactivate(ORDERS)
    clock.advance(timedelta(days=30))
    await store.asweep_assets()
    assert objects(root) == []


async def test_the_objects_of_another_store_are_left_alone(
    store: Store, root: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    await store.task_state(TASK).aset("key", 1)
    clock.advance(timedelta(days=2))
    async with open_on(root, MemoryBackend(clock=clock), clock) as other:
        assert "belongs to another store" in ((await other.acleanup()).objects_skipped or "")
        with caplog.at_level(logging.WARNING, "asyncstore"):
            await other.task_state(TASK).aset("key", 2)
        assert "belongs to another store" in caplog.text
        assert "belongs to another store" in ((await other.acleanup()).objects_skipped or "")
        assert await other.task_state(TASK).aget("key") == 2
    assert await store.task_state(TASK).aget("key") == 1
    assert (await store.acleanup()).objects_skipped is None


def test_sync_cleanup_does_the_same(root: Path, clock: ManualClock) -> None:
    with open_on(root, MemoryBackend(clock=clock), clock) as store:
        store.task_state(TASK).set("a", 1, retention=HOUR)
        store.task_state(TASK).set("b", 1)
        clock.advance(timedelta(days=2))
        assert store.cleanup(dry_run=True).objects == 1
        assert store.cleanup().objects == 1
        assert store.task_state(TASK).get("b") == 1


async def test_a_backend_that_remembers_nothing_has_its_objects_found(root: Path, clock: ManualClock) -> None:
    backend = MinimalBackend()
    async with open_on(root, backend, clock) as store:
        await store.task_state(TASK).aset("a", 1)
        await store.task_state(TASK).aset("b", 1)
        await store.task_state(TASK).aclear()
        await store.task_state(TASK).aset("c", 1)
        clock.advance(timedelta(days=2))
        assert (await store.acleanup()).objects == 2
        assert await store.task_state(TASK).aget("c") == 1
    assert len(objects(root)) == 1


async def test_a_session_that_is_rolled_back_leaves_the_old_value(
    root: Path, tmp_path: Path, clock: ManualClock
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'state.db'}"
    engine = create_async_engine(url)
    async with MetastoreBackend(url, clock=clock) as backend, open_on(root, backend, clock) as store:
        state = store.task_state(TASK)
        await state.aset("key", "old")
        [old] = objects(root)
        async with AsyncSession(engine) as session:
            await state.aset("key", "undone", session=session)
            assert await state.aget("key", session=session) == "undone"
            await session.rollback()
        assert await state.aget("key") == "old"
        async with AsyncSession(engine) as session:
            await state.aset("key", "new", session=session)
            await session.commit()
        assert await state.aget("key") == "new"
        assert old in objects(root)
        assert (await store.acleanup()).objects == 1
        assert old not in objects(root)
        clock.advance(timedelta(days=2))
        assert (await store.acleanup()).objects == 1
        assert await state.aget("key") == "new"
    await engine.dispose()


async def test_what_somebody_elses_backend_keeps_goes_with_its_rows(clock: ManualClock) -> None:
    backend = MemoryBackend(clock=clock)
    async with open_with(DictBackend, backend) as store:
        await store.task_state(TASK).aset("a", 1)
        await store.task_state(TASK).aset("a", 2)
        await store.task_state(TASK).aset("b", 1)
        await store.asset_state[ORDERS].aset("c", 1)
        scope = (await store.aregister(ORDERS)).scope
        await store.adelete_run("dag", "run")
        assert DictBackend.removed == [(TASK, "a"), (TASK, "b")]
        await store.adelete_asset(ORDERS)
        [gone] = DictBackend.removed[2:]
        assert (gone[0].name, gone[1]) == (scope.name, "c")
        assert (await store.acleanup()).objects == 0


async def test_a_dry_sweep_removes_nothing(store: Store, root: Path, clock: ManualClock) -> None:
    await store.asset_state[ORDERS].aset("key", 1)
    await store.adeactivate(ORDERS)
    clock.advance(timedelta(days=30))
    assert (await store.asweep_assets(dry_run=True)).deleted == 1
    assert len(objects(root)) == 1
