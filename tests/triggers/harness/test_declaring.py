"""What triggerers do about assets that come, go, and cannot be registered, while they run."""

from __future__ import annotations

from collections import Counter
from typing import Any

import anyio
import pytest

from asyncstore import Asset, Event, WatcherOrder, WatcherState
from asyncstore.backends.memory import MemoryBackend
from tests.triggers.harness.world import BEAT, LEASE, NAMES, Once, Ticking, World, virtual, watched
from triggers import AssetWatcher, on_event


@virtual
async def test_an_asset_that_is_deleted_while_two_run_is_watched_again_by_either(world: World) -> None:
    async with anyio.create_task_group() as tasks:
        for owner in "ab":
            tasks.start_soon(world.run, owner, watched(*NAMES))
        await anyio.sleep(2 * BEAT)
        assert await world.holders() == Counter(a=6, b=6)
        async with world.opened() as store:
            for name in NAMES:
                await store.adelete_asset(Asset(name))
        await anyio.sleep(6 * BEAT)
        assert await world.holders() == Counter(a=6, b=6)
        world.running["a"].stop()  # whoever noticed the deletion first
        await anyio.sleep(2 * BEAT)
        assert await world.holders() == Counter(b=12)
        world.running["b"].stop()
    await world.judge(*NAMES)


@virtual
async def test_a_quiet_watcher_whose_asset_was_deleted_is_found_out(world: World) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: world.run("a", watched("quiet", kind=Once)))
        await anyio.sleep(1)
        async with world.opened() as store:
            await store.adelete_asset(Asset("quiet"))
            await anyio.sleep(5 * BEAT)
            assert [each.payload for each in await store.events().alist()] == ["once"]  # of the asset that is new
        assert await world.states() == {"quiet": WatcherState.RUNNING}


def _conflicting() -> list[Asset]:
    bad = [Asset(name, uri="s3://bucket/x", watchers=[AssetWatcher("w", Ticking())]) for name in ("first", "second")]
    return [*watched(*NAMES), *bad]


def test_one_that_cannot_be_registered_is_said_once_and_found_without_asking_for_each(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    register = MemoryBackend.aregister_assets

    async def counted(self: MemoryBackend, assets: Any) -> Any:
        asked.append(len(assets))
        return await register(self, assets)

    monkeypatch.setattr(MemoryBackend, "aregister_assets", counted)

    @virtual
    async def course(world: World) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: world.run("a", _conflicting()))
            await anyio.sleep(1)
            assert await world.holders() == Counter(a=13)
            assert len(asked) < 13
            asked.clear()
            await anyio.sleep(9 * BEAT)
            assert asked == [1, 1]  # only that one, and seldom
            world.running["a"].stop()

    course()
    assert len([record for record in caplog.records if "cannot be run" in record.message]) == 1


@virtual
async def test_it_does_not_end_while_something_could_not_be_declared(world: World) -> None:
    async with world.opened() as store:
        await store.backend.aregister_asset(Asset("other", uri="s3://bucket/x"))
    bad = Asset("bad", uri="s3://bucket/x", watchers=[AssetWatcher("w", Ticking())])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: world.run("a", [bad]))
        await anyio.sleep(5 * BEAT)
        async with world.opened() as store:
            await store.adelete_asset(Asset("other"))
        await anyio.sleep(5 * BEAT)
        assert await world.holders() == Counter(a=1)
        world.running["a"].stop()


@virtual
async def test_with_handlers_it_stays_although_every_watcher_is_done(world: World) -> None:
    (asset,) = watched("asset", kind=Once)
    handled: list[Any] = []

    @on_event(asset)
    async def handle(event: Event) -> None:
        handled.append(event.payload)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: world.run("a", [asset], handlers=[handle]))
        await anyio.sleep(LEASE * 3)
        assert await world.states() == {"asset": WatcherState.DONE}
        async with world.opened() as store:
            await store.aorder_watcher(asset, "w", WatcherOrder.RESTART)
        await anyio.sleep(2 * BEAT)
        assert await world.states() == {"asset": WatcherState.RUNNING}
        world.running["a"].stop()
    assert handled == ["once", "once"]
