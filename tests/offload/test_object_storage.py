"""Values in object storage, chosen by the rows."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import pytest

from asyncstore import (
    Asset,
    BaseStoreBackend,
    BrokenReferenceError,
    ConfigurationError,
    InlineValueWarning,
    LeaseLostError,
    MemoryBackend,
    MetastoreBackend,
    ObjectStorageBackend,
    Store,
    ValueTooLargeError,
    VersionConflictError,
    WorkerBackendError,
)
from asyncstore.backends.objects import content
from asyncstore.backends.objects.connections import parse_url
from asyncstore.backends.objects.storage import Objects
from asyncstore.offload import collecting
from asyncstore.offload.stored import Reference
from asyncstore.settings import CommonIoSettings, CommonSettings, StateStoreSettings
from asyncstore.values import check_value
from tests.conformance.backends import MinimalBackend
from tests.offload.support import TASK, open_with

pytestmark = pytest.mark.anyio

ORDERS = Asset("orders", uri="s3://orders")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "objects"


def objects(root: Path) -> list[str]:
    """The objects of a folder, but for the one that says whose it is."""
    found = (Path(folder, name) for folder, _, names in os.walk(root) for name in names)
    return sorted(str(each.relative_to(root)) for each in found if not each.name.startswith("!"))


def store_on(root: Path | str, backend: BaseStoreBackend, **options: Any) -> Store:
    url = root if isinstance(root, str) else root.as_uri()
    given = {"path": url, **options}
    named: dict[str, Any] = {f"state_store_objectstorage_{name}": value for name, value in given.items()}
    return open_with(ObjectStorageBackend, backend, common=CommonSettings(io=CommonIoSettings(**named)))


@pytest.fixture(params=["memory", "sqlite"])
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[BaseStoreBackend]:
    if request.param == "memory":
        yield MemoryBackend()
    else:
        async with MetastoreBackend(f"sqlite+aiosqlite:///{tmp_path / 'state.db'}") as backend:
            yield backend


@pytest.fixture
async def store(root: Path, backend: BaseStoreBackend) -> AsyncGenerator[Store]:
    async with store_on(root, backend) as store:
        yield store


async def test_values_are_in_objects_under_the_path_of_their_key(store: Store, root: Path) -> None:
    await store.task_state(TASK).aset("a/b", {"x": [1]})
    await store.asset_state[ORDERS].aset("watermark", 7)
    assert [each.rpartition("/")[0] for each in objects(root)] == ["assets/orders/watermark", "dag/run/task/-1/a%2Fb"]
    row = await store.backend.aget(TASK, "a/b")
    assert row is not None
    reference = Reference.parse(row)
    assert f"{reference.at}/{reference.digest}" in objects(root)
    assert reference.size == len('{"x":[1]}')
    assert await store.task_state(TASK).aget("a/b") == {"x": [1]}
    assert await store.asset_state[ORDERS].aget("watermark") == 7


async def test_everything_that_inline_values_can_do(store: Store) -> None:
    state = store.task_state(TASK)
    await state.aset_many({"a": 1, "b": "x" * 10_000, "c": [1, 2]})
    assert await state.aget_many(["c", "a", "none"]) == {"c": [1, 2], "a": 1}
    assert await state.akeys() == ["a", "b", "c"]
    entry = await state.aget_entry("a")
    assert entry is not None
    await state.aset("a", 2, if_version=entry.version)
    with pytest.raises(VersionConflictError):
        await state.aset("a", 3, if_version=entry.version)
    assert await state.aupdate("a", lambda before: before + 1) == 3
    assert await state.aadvance("a", 5)
    assert not await state.aadvance("a", 4)
    assert await state.aget("a") == 5
    await asyncio.gather(*(state.aupdate("a", lambda before: before + 1) for _ in range(10)))
    assert await state.aget("a") == 15


async def test_what_is_replaced_or_deleted_goes(store: Store, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "_DELAY", 0)
    state = store.task_state(TASK)
    for number in range(3):
        await state.aset("key", number)
    for _ in range(100_000):
        if len(objects(root)) == 1:
            break
        await asyncio.sleep(0)
    assert len(objects(root)) == 1
    assert await state.aget("key") == 2
    await state.adelete("key")
    assert objects(root) == []
    await state.aset_many({"a": 1, "b": 2})
    await store.asset_state[ORDERS].aset("a", 1)
    await state.aclear()
    assert len(objects(root)) == 1
    await store.asset_state[ORDERS].aclear()
    assert objects(root) == []


async def test_the_end_of_the_store_removes_what_is_due(root: Path, backend: BaseStoreBackend) -> None:
    async with store_on(root, backend) as store:
        await store.task_state(TASK).aset("key", 1)
        await store.task_state(TASK).aset("key", 2)
    assert len(objects(root)) == 1
    async with store_on(root, backend) as store:
        assert await store.task_state(TASK).aget("key") == 2


def test_sync_calls_do_the_same(root: Path) -> None:
    with store_on(root, MemoryBackend()) as store:
        state = store.task_state(TASK)
        state.set("key", 1)
        state.set("key", 2)
        assert state.get("key") == 2
        state.set_many({"a": 1, "b": 2})
        assert state.get_many(["a", "b"]) == {"a": 1, "b": 2}
        assert state.update("a", lambda before: before + 1) == 2
        state.delete("b")
    assert len(objects(root)) == 2


async def test_a_lost_race_leaves_the_old_value_and_no_object(store: Store, root: Path) -> None:
    state = store.task_state(TASK)
    await state.aset("key", "old")
    before = objects(root)
    with pytest.raises(VersionConflictError):
        await state.aset("key", "new", if_version=10_000)
    assert objects(root) == before
    assert await state.aget("key") == "old"


async def test_the_late_write_of_a_fenced_watcher_changes_nothing(store: Store, root: Path) -> None:
    old = await store.aclaim_watcher(ORDERS, "watcher", owner="a")
    await old.acommit(await old.prepare(None, None, {"watermark": 1}))
    late = await old.prepare(None, None, {"watermark": 2})
    new = await store.aclaim_watcher(ORDERS, "watcher", owner="b")
    with pytest.raises(LeaseLostError):
        await old.acommit(late)
    with pytest.raises(LeaseLostError):
        await old.asset_state.aset("watermark", 3)
    assert await new.asset_state.aget("watermark") == 1
    await new.acommit(await new.prepare({"n": 1}, None, {"watermark": 4}))
    assert await new.asset_state.aget("watermark") == 4


async def test_half_a_set_many_is_nothing(store: Store, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = store.task_state(TASK)
    await state.aset_many({"a": 1, "b": 1})
    before = objects(root)
    with pytest.raises(TypeError):
        await state.aset_many({"a": 2, "b": [0] * 1000 + [{1}]})
    assert await state.aget_many(["a", "b"]) == {"a": 1, "b": 1}
    assert objects(root) == before


@pytest.mark.parametrize("harm", ["gone", "overwritten", "cut", "other"])
async def test_an_object_that_is_not_what_its_row_says_is_broken_until_the_next_set(
    store: Store, root: Path, harm: str
) -> None:
    state = store.task_state(TASK)
    await state.aset("key", "value")
    await state.aset("other", "value")
    one, other = (root / each for each in objects(root))
    if harm == "gone":
        one.unlink()
    elif harm == "cut":
        one.write_bytes(one.read_bytes()[:-3])
    else:
        one.write_bytes(b"garbage" if harm == "overwritten" else other.read_bytes())
    for call in (state.aget("key"), state.aget_entry("key"), state.aget_many(["key", "other"])):
        with pytest.raises(BrokenReferenceError, match=r"'key'.*next set"):
            await call
    with pytest.raises(BrokenReferenceError):
        await anext(state.awatch("key"))
    await state.aset("key", "new")
    assert await state.aget("key") == "new"


async def test_a_reader_that_comes_late_reads_the_newer_row(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    state = store.task_state(TASK)
    await state.aset("key", 1)
    load = ObjectStorageBackend.aload
    times = 0

    async def late(self: ObjectStorageBackend, place: Any, text: str) -> Any:
        nonlocal times
        times += 1
        if times == 1:
            await state.aset("key", 2)
            await self.adiscard([text])
        return await load(self, place, text)

    for read in (state.aget, state.aget_entry):
        times = 0
        monkeypatch.setattr(ObjectStorageBackend, "aload", late)
        found = await read("key")
        assert getattr(found, "value", found) == 2


async def test_several_values_are_of_one_moment(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    state = store.task_state(TASK)
    await state.aset_many({"a": 1, "b": 1})
    load = ObjectStorageBackend.aload
    changed = False

    async def late(self: ObjectStorageBackend, place: Any, text: str) -> Any:
        nonlocal changed
        if place.key == "b" and not changed:
            changed = True
            await state.aset_many({"a": 2, "b": 2})
            await self.adiscard([text])
        return await load(self, place, text)

    monkeypatch.setattr(ObjectStorageBackend, "aload", late)
    assert await state.aget_many(["a", "b"]) == {"a": 2, "b": 2}


async def test_the_threshold_decides_and_may_change(root: Path, backend: BaseStoreBackend) -> None:
    values = {"small": "x" * 8, "large": "x" * 9}
    async with store_on(root, backend, threshold=11, compression="gzip") as store:
        await store.task_state(TASK).aset_many(values)
        assert await store.backend.aget(TASK, "small") == '"xxxxxxxx"'
        assert await store.task_state(TASK).aget_many(values) == values
    assert len(objects(root)) == 1
    async with store_on(root, backend, threshold=100, compression="bz2") as store:
        assert await store.task_state(TASK).aget_many(values) == values
    async with store_on(root, backend) as store:
        with pytest.warns(InlineValueWarning, match="'small'"):
            assert await store.task_state(TASK).aget_many(values) == values


async def test_the_limit_is_for_what_stays_in_the_store(root: Path, backend: BaseStoreBackend) -> None:
    state_store = StateStoreSettings(max_value_storage_bytes=1000)
    io = CommonIoSettings(state_store_objectstorage_path=root.as_uri(), state_store_objectstorage_threshold=5000)
    async with open_with(ObjectStorageBackend, backend, common=CommonSettings(io=io), state_store=state_store) as store:
        await store.task_state(TASK).aset("key", "x" * 100_000)
        with pytest.raises(ValueTooLargeError):
            await store.task_state(TASK).aset("key", "x" * 3000)
        assert len(await store.task_state(TASK).aget("key")) == 100_000


@pytest.mark.parametrize("compression", [None, "gzip"])
async def test_large_values_go_in_pieces(
    root: Path, backend: BaseStoreBackend, compression: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "WHOLE", 1000)
    value = {"numbers": list(range(3000)), "text": "ä" * 100_000}
    async with store_on(root, backend, compression=compression) as store:
        await store.task_state(TASK).aset("key", value)
        assert await store.task_state(TASK).aget("key") == value
        [found] = objects(root)
        (root / found).unlink()
        with pytest.raises(BrokenReferenceError):
            await store.task_state(TASK).aget("key")


async def test_a_backend_that_remembers_nothing_loses_nothing(root: Path) -> None:
    async with store_on(root, MinimalBackend()) as store:
        state = store.task_state(TASK)
        await state.aset("key", 1)
        await state.aset("key", 2)
        assert len(objects(root)) == 1
        assert await state.aget("key") == 2
        await state.adelete("key")
        assert objects(root) == []
        await state.aset("key", 3, retention=None)
        assert await state.aget("key") == 3


async def test_long_and_awkward_names(store: Store) -> None:
    names = ["x" * 512, "X" * 512, "é" * 256, "..", ".", "a/../../b", "😀", "a\\b"]
    state = store.task_state(TASK)
    await state.aset_many({name: name for name in names})
    assert await state.aget_many(names) == {name: name for name in names}


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("sftp://host/path", "sftp.*allowed are s3, gs, az, file and memory"),
        ("s3://key:hunter2@bucket/", "id of a connection"),
        ("s3:///prefix", "names no bucket"),
        ("s3://lake@bucket/", "ASYNCSTORE_CONN_LAKE"),
        ("s3://bucket/a/../b", "empty, . or .."),
        ("s3://bucket/" + "x" * 1000, "1,024"),
        ("s3://bucket/?secret=hunter2", "query"),
        ("file://relative/path", "three slashes"),
    ],
)
async def test_a_wrong_url_fails_at_start(url: str, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASYNCSTORE_CONN_LAKE", raising=False)
    with pytest.raises(ConfigurationError, match=problem) as caught:
        async with store_on(url, MemoryBackend()):
            pass
    assert "hunter2" not in str(caught.value)


def test_what_is_no_url_is_not_shown() -> None:
    for text in ("key:hunter2@bucket", "s3//key:hunter2@bucket", "hunter2"):
        with pytest.raises(ConfigurationError, match="allowed is a URL such as") as caught:
            ObjectStorageBackend(text)
        assert "hunter2" not in str(caught.value)


async def test_a_wrong_connection_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in (
        "[]",
        "{",
        '{"no_such_option": "hunter2"}',
        '{"retry_config": "hunter2"}',
        '{"client_options": ["hunter2"]}',
        '{"client_options": {"timeout": NaN}}',
    ):
        monkeypatch.setenv("ASYNCSTORE_CONN_MY_LAKE", text)
        with pytest.raises(ConfigurationError) as caught:
            async with store_on("s3://my-lake@bucket/", MemoryBackend()):
                pass
        assert "hunter2" not in str(caught.value)


async def test_an_endpoint_with_a_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"key": "k", "secret": "s", "region": "x", "endpoint_url": "http://me:hunter2@127.0.0.1:1"}
    monkeypatch.setenv("ASYNCSTORE_CONN_LAKE", json.dumps({**options, "retry_config": {"max_retries": 0}}))
    async with store_on("s3://lake@bucket/", MemoryBackend()) as store:
        with pytest.raises(WorkerBackendError, match=r"http://\*\*\*@127.0.0.1") as caught:
            await store.task_state(TASK).aset("key", 1)
    assert "hunter2" not in str(caught.value)


def test_urls_are_read() -> None:
    assert str(parse_url("s3://lake@bucket/a/b/")) == "s3://lake@bucket/a/b"
    assert str(parse_url("gcs://bucket")) == "gs://bucket"
    assert str(parse_url("abfs://lake@container/x")) == "az://lake@container/x"
    assert str(parse_url("file:///a%20b/")) == "file:///a b"


async def test_a_folder_that_mixes_up_cases_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exists = Path.exists

    def mixes_up(self: Path) -> bool:
        return exists(self) or any(each.name.upper() == self.name.upper() for each in self.parent.iterdir())

    monkeypatch.setattr(Path, "exists", mixes_up)
    with pytest.raises(ConfigurationError, match="differ only in case"):
        async with store_on(root, MemoryBackend()):
            pass


async def test_without_a_url_the_option_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"\[common.io\] state_store_objectstorage_path"):
        async with open_with(ObjectStorageBackend):
            pass


def test_the_hooks_by_themselves(root: Path) -> None:
    backend = ObjectStorageBackend(root.as_uri(), compression="gzip")
    first = backend.serialize_task_store_to_ref(value=[1], key="a/b", ti_id=TASK.ti_id)
    assert first == backend.serialize_task_store_to_ref(value=[2], key="a/b", ti_id=TASK.ti_id)
    assert backend.deserialize_task_store_from_ref(first) == [2]
    other = backend.serialize_asset_store_to_ref(value="x", key="k", asset_ref="s3://orders")
    assert backend.deserialize_asset_store_from_ref(other) == "x"
    assert backend.deserialize_asset_store_from_ref("assets/none/k") is None


async def test_a_process_that_writes_once_removes_what_it_replaced(root: Path, backend: BaseStoreBackend) -> None:
    for number in range(3):
        async with store_on(root, backend) as store:
            await store.task_state(TASK).aset("key", number)
        assert len(objects(root)) == 1


async def test_a_removal_that_is_cut_short_is_made_up_at_the_end(
    root: Path, backend: BaseStoreBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "_DELAY", 0)
    remove = Objects.remove
    reached = asyncio.Event()

    async def held(self: Objects, paths: Sequence[str]) -> None:
        if not reached.is_set():
            reached.set()
            await asyncio.Event().wait()
        await remove(self, paths)

    monkeypatch.setattr(Objects, "remove", held)
    async with store_on(root, backend) as store:
        await store.task_state(TASK).aset("key", 1)
        await store.task_state(TASK).aset("key", 2)
        await reached.wait()
    assert len(objects(root)) == 1


async def test_a_value_is_kept_as_it_was_when_the_write_was_called(store: Store) -> None:
    value = {"a": [1]}
    writing = asyncio.create_task(store.task_state(TASK).aset("key", value))
    await asyncio.sleep(0)
    value["a"].append(2)
    await writing
    assert await store.task_state(TASK).aget("key") == {"a": [1]}


async def test_a_large_value_that_is_changed_on_its_way(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    value = {str(number): number for number in range(1000)}

    def change(found: object) -> None:
        check_value(found)
        for number, _ in enumerate(value):
            value[f"more {number}"] = number

    await store.task_state(TASK).aset("key", "old")
    monkeypatch.setattr("asyncstore.backends.objects.encoding.check_value", change)
    with pytest.raises(WorkerBackendError, match="must not be changed"):
        await store.task_state(TASK).aset("key", value)
    assert await store.task_state(TASK).aget("key") == "old"


async def test_a_folder_that_went_is_synced_anew(store: Store, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr("asyncstore.backends.objects.storage._sync", synced.append)
    state = store.task_state(TASK)
    for _ in range(2):
        synced.clear()
        await state.aset("key", 1)
        assert {root / "dag" / "run" / "task" / "-1" / "key", root / "dag", root} <= set(synced)
        await state.adelete("key")
        assert not (root / "dag").exists()


class Forgetful(MinimalBackend):
    """Writes, and then does not know that it did."""

    forgets = False

    async def aset(self, *args: Any, **options: Any) -> None:
        await super().aset(*args, **options)
        if self.forgets:
            raise WorkerBackendError("no answer")


async def test_an_object_whose_row_may_be_there_stays(root: Path) -> None:
    backend = Forgetful()
    async with store_on(root, backend) as store:
        await store.task_state(TASK).aset("key", "old")
        backend.forgets = True
        with pytest.raises(WorkerBackendError, match="no answer"):
            await store.task_state(TASK).aset("key", "new")
        assert await store.task_state(TASK).aget("key") == "new"
