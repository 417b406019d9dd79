"""Triggerers and handlers whose values are kept elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from asyncstore import (
    Asset,
    AssetScope,
    BaseStoreBackend,
    ConsumerSettings,
    DeliveredEvent,
    LeaseLostError,
    ObjectStorageBackend,
    Settings,
    Store,
    TaskContext,
    TaskScope,
    TriggererSettings,
    UnsupportedOperationError,
    WorkerBackendError,
    WorkersSettings,
    connect,
)
from asyncstore.offload.stored import is_reference
from asyncstore.settings import CommonIoSettings, CommonSettings
from tests.offload.backends import DictBackend
from tests.offload.support import path
from tests.offload.test_object_storage import objects
from tests.triggers.support import until
from triggers import AssetWatcher, BaseEventTrigger, HandlerRunner, Triggerer, TriggerEvent, on_event

pytestmark = pytest.mark.anyio

LAST = 20
WIDE = 3000
ORDERS = Asset("orders", uri="s3://orders")


@pytest.fixture(params=[ObjectStorageBackend, DictBackend])
def kind(request: pytest.FixtureRequest) -> type[BaseStoreBackend]:
    found: type[BaseStoreBackend] = request.param
    return found


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path}/state.db"


def open_on(url: str, kind: type[BaseStoreBackend], folder: Path) -> Store:
    io = CommonIoSettings(state_store_objectstorage_path=(folder / "objects").as_uri())
    triggerer = TriggererSettings(restart_delay=0.001, restart_delay_max=0.002, heartbeat_interval=0.05)
    settings = Settings(
        workers=WorkersSettings(state_backend=path(kind)),
        common=CommonSettings(io=io),
        triggerer=triggerer,
        consumers=ConsumerSettings(poll_interval=0.005, retry_delay=0.001, retry_delay_max=0.001),
    )
    return connect(url, settings=settings)


class Counting(BaseEventTrigger):
    """Counts on, beside its watermark a large value that must be of the same commit."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        at = await self.asset_state.aget("watermark", 0)
        assert await self.asset_state.aget("wide", []) == [at] * (WIDE if at else 0)
        while at < LAST:
            at += 1
            yield TriggerEvent(at, checkpoint={"watermark": at, "wide": [at] * WIDE})
            await self.asset_state.aset("beside", [at] * WIDE)


async def test_a_fleet_hands_watchers_over_with_their_checkpoints(
    url: str, tmp_path: Path, kind: type[BaseStoreBackend]
) -> None:
    assets = [Asset(f"asset {number}", watchers=[AssetWatcher("w", Counting())]) for number in range(4)]
    async with open_on(url, kind, tmp_path) as one, open_on(url, kind, tmp_path) as other:

        async def recorded() -> int:
            return len(await other.backend.alist_events())

        first = Triggerer(one, assets, owner="first")
        running = asyncio.create_task(first.run())

        async def has_begun() -> bool:
            return await recorded() > 4

        await until(has_begun)
        second = Triggerer(other, assets, owner="second")
        taking_over = asyncio.create_task(second.run())
        first.stop()
        await running

        async def is_done() -> bool:
            return await recorded() >= 4 * LAST

        await until(is_done)
        for asset in assets:
            state = other.asset_state[asset]
            assert await state.aget("watermark") == LAST
            assert await state.aget("wide") == [LAST] * WIDE
            await until(lambda state=state: _is_last(state))  # type: ignore[misc]
        second.stop()
        await taking_over
        found = {
            asset.name: [e.payload for e in await other.backend.alist_events(AssetScope(name=asset.name))]
            for asset in assets
        }
        assert all(each == list(range(1, LAST + 1)) for each in found.values())
        assert all(record.last_error is None for record in await other.alist_watchers())


async def _is_last(state: Any) -> bool:
    found: object = await state.aget("beside")
    return found == [LAST] * WIDE


async def test_a_checkpoint_that_cannot_be_kept_restarts_the_watcher_from_its_watermark(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = ObjectStorageBackend.akeep
    failures = 3

    async def failing(self: ObjectStorageBackend, place: Any, value: object) -> str:
        nonlocal failures
        if place.key == "wide" and failures:
            failures -= 1
            raise WorkerBackendError("no route")
        return await keep(self, place, value)

    monkeypatch.setattr(ObjectStorageBackend, "akeep", failing)
    async with open_on(url, ObjectStorageBackend, tmp_path) as store:
        asset = Asset("orders", watchers=[AssetWatcher("w", Counting())])
        await Triggerer(store, [asset], begin_anew=True).run()
        assert failures == 0
        assert [event.payload for event in await store.backend.alist_events()] == list(range(1, LAST + 1))
        assert await store.asset_state[asset].aget("wide") == [LAST] * WIDE


async def test_a_fenced_watchers_late_large_checkpoint_changes_nothing(url: str, tmp_path: Path) -> None:
    async with open_on(url, ObjectStorageBackend, tmp_path) as store:
        old = await store.aclaim_watcher(ORDERS, "watcher", owner="old")
        await old.acommit(await old.prepare(1, None, {"wide": [1] * WIDE}))
        late = await old.prepare(2, None, {"wide": [2] * WIDE})
        new = await store.aclaim_watcher(ORDERS, "watcher", owner="new")
        before = await store.backend.aget(new.lease.asset, "wide")
        for write in (old.acommit(late), old.asset_state.aset("wide", 3), old.asset_state.aupdate("wide", lambda _: 4)):
            with pytest.raises(LeaseLostError):
                await write
        assert await store.backend.aget(new.lease.asset, "wide") == before
        assert await new.asset_state.aget("wide") == [1] * WIDE
        assert len(await store.backend.alist_events()) == 1


async def test_handlers_keep_their_state_and_commit_with_their_event(url: str, tmp_path: Path) -> None:
    async with open_on(url, ObjectStorageBackend, tmp_path) as store:
        watcher = await store.aclaim_watcher(ORDERS, "watcher", owner="me")
        for number in range(3):
            await watcher.acommit(await watcher.prepare(number, None, None))
        attempts: list[tuple[Any, int, Any]] = []

        @on_event(ORDERS, name="loader")
        async def load(event: DeliveredEvent, context: TaskContext) -> None:
            step = await context.task_state.aget("step", [])
            attempts.append((event.payload, event.attempt, len(step)))
            await context.task_state.aset("step", [event.payload] * WIDE)
            async with event.transaction() as session:
                total = await context.asset_state.aget("total", [], session=session)
                await context.asset_state.aset("total", [*total, event.payload], session=session)
                if event.attempt == 1:
                    raise ZeroDivisionError

        running = asyncio.create_task(HandlerRunner(store, [load]).run())

        async def is_settled() -> bool:
            found = await store.alist_consumers()
            return bool(found) and not any(each.behind or each.in_hand or each.waiting for each in found)

        await until(is_settled)
        running.cancel()
        await asyncio.wait([running])
        assert sorted(attempts) == [(n, attempt, WIDE * (attempt - 1)) for n in range(3) for attempt in (1, 2)]
        total = await store.asset_state[ORDERS].aget("total")
        assert sorted(total) == [0, 1, 2]
        row = await store.backend.aget(watcher.lease.asset, "total")
        assert row is not None
        assert is_reference(row)
    assert all(is_kept(each) for each in objects(tmp_path / "objects"))


def is_kept(name: str) -> bool:
    return name.startswith(("assets/orders/total/", "loader/event-"))


async def test_a_handler_cannot_commit_what_is_overwritten_in_place(url: str, tmp_path: Path) -> None:
    async with open_on(url, DictBackend, tmp_path) as store:
        watcher = await store.aclaim_watcher(ORDERS, "watcher", owner="me")
        await watcher.acommit(await watcher.prepare(1, None, None))
        async for event in store.events(ORDERS, consumer="loader"):
            with pytest.raises(UnsupportedOperationError, match="session="):
                async with event.transaction() as session:
                    await store.asset_state[ORDERS].aset("total", 1, session=session)
            break
        await store.task_state(TaskScope("dag", "run", "task")).aset("step", [1] * WIDE)
        assert await store.asset_state[ORDERS].aget("total") is None
