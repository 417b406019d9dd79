"""What must not be taken for abandoned."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from asyncstore import Asset, AssetScope, ManualClock, MemoryBackend, ObjectStorageBackend
from asyncstore.settings import CommonIoSettings, CommonSettings
from tests.conformance.backends import MinimalBackend
from tests.offload.support import TASK, open_with
from tests.offload.test_garbage import abandon, open_on
from tests.offload.test_object_storage import objects

pytestmark = pytest.mark.anyio

DAY = timedelta(days=1)
URI = "s3://warehouse/orders/"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime.now(UTC))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "objects"


async def test_the_value_of_an_asset_that_took_over_the_uri_of_another(root: Path, clock: ManualClock) -> None:
    async with open_on(root, MemoryBackend(clock=clock), clock) as store:
        by_uri = AssetScope(uri=URI)
        await store.aregister(Asset("before", uri=URI))
        await store.asset_state[by_uri].aset("key", 1)
        await store.adelete_asset(by_uri)
        await store.aregister(Asset("after", uri=URI))
        await store.asset_state[by_uri].aset("key", 2)
        assert [each.rpartition("/")[0] for each in objects(root)] == ["assets/after/key"]
        clock.advance(2 * DAY)
        assert (await store.acleanup()).objects == 0
        assert await store.asset_state[by_uri].aget("key") == 2


async def test_the_values_of_a_store_whose_path_is_below(root: Path, clock: ManualClock) -> None:
    upper, lower = MemoryBackend(clock=clock), MemoryBackend(clock=clock)
    below = root / "team" / "state"
    async with open_on(root, upper, clock) as above, open_on(below, lower, clock) as store:
        await above.task_state(TASK).aset("key", 1)
        for name in ("5", "five"):  # as the last part of a task instance the one could be, the other could not
            await store.asset_state[Asset(name)].aset("key", name)
        clock.advance(2 * DAY)
        assert (await above.acleanup()).objects == 0
        for name in ("5", "five"):
            assert await store.asset_state[Asset(name)].aget("key") == name


async def test_what_somebody_else_put_there(root: Path, clock: ManualClock) -> None:
    async with open_on(root, MemoryBackend(clock=clock), clock) as store:
        await store.task_state(TASK).aset("key", 1)
        for at in ("a/b/c/d/key", "a/b/c/0/key", "a/b/c/%ff/key", "assets/a/%00", "assets/%ff/key", "!tasks/a/key"):
            for number, text in enumerate(
                (b"not ours", b'{"asyncstore":1,"task":5,"key":[]}\n', b'{"asyncstore":2}\n')
            ):
                folder = root / at
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{number:064x}").write_bytes(text)
        before = objects(root)
        clock.advance(2 * DAY)
        assert (await store.acleanup()).objects == 0
        assert objects(root) == before


async def test_the_values_of_another_store_of_the_same_path_that_remembers_nothing(
    root: Path, clock: ManualClock
) -> None:
    async with open_on(root, MinimalBackend(), clock) as one, open_on(root, MinimalBackend(), clock) as other:
        await one.task_state(TASK).aset("key", 1)
        clock.advance(2 * DAY)
        assert "belongs to another store" in ((await other.acleanup()).objects_skipped or "")
        assert await one.task_state(TASK).aget("key") == 1
        assert (await one.acleanup()).objects_skipped is None


async def test_nothing_is_abandoned_where_the_option_says_so(root: Path, clock: ManualClock) -> None:
    io = CommonIoSettings(state_store_objectstorage_path=root.as_uri(), state_store_objectstorage_abandoned_days=0)
    backend = MemoryBackend(clock=clock)
    async with open_with(ObjectStorageBackend, backend, common=CommonSettings(io=io)) as store:
        await store.task_state(TASK).aset("key", 1)
        await abandon(store, "key", 2)
        clock.advance(20 * DAY)
        assert (await store.acleanup()).objects == 0
    assert len(objects(root)) == 2


async def test_a_backend_that_does_not_tell_which_store_it_is(root: Path, clock: ManualClock) -> None:
    class Registering(MinimalBackend):
        async def aregister_asset(self, asset: Asset) -> AssetScope:
            raise NotImplementedError

    async with open_on(root, Registering(), clock) as store:
        await store.task_state(TASK).aset("key", 1)
        clock.advance(2 * DAY)
        assert "does not tell" in ((await store.acleanup()).objects_skipped or "")
        assert await store.task_state(TASK).aget("key") == 1
