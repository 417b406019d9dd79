"""Values in S3, against a real server, and what becomes of them when it fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from datetime import timedelta

import pytest

from asyncstore import (
    BrokenReferenceError,
    MemoryBackend,
    Store,
    StoreError,
    VersionConflictError,
    WorkerBackendError,
)
from asyncstore.backends.objects import content
from asyncstore.backends.objects.places import MARKER
from asyncstore.backends.objects.storage import Objects
from tests.offload.s3 import SECRET, Proxy, Server
from tests.offload.support import TASK
from tests.offload.test_object_storage import store_on

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(proxy: Proxy, bucket: str) -> AsyncGenerator[Store]:
    async with store_on(f"s3://lake@{bucket}/some/prefix/", MemoryBackend()) as store:
        await store.task_state(TASK).aset("key", "old")
        proxy.requests.clear()
        yield store


async def refused(store: Store, *says: str) -> str:
    """See a write fail, the old value stay, and a repetition succeed."""
    state = store.task_state(TASK)
    with pytest.raises(WorkerBackendError) as caught:
        await state.aset("key", "new")
    text = str(caught.value)
    assert all(each in text for each in ("s3://lake@", *says)), text
    assert SECRET not in text
    assert SECRET not in repr(caught.value.__cause__)
    assert await state.aget("key") == "old"
    await state.aset("key", "new")
    assert await state.aget("key") == "new"
    return text


async def test_what_it_costs(store: Store, proxy: Proxy, bucket: str, s3: Server) -> None:
    state = store.task_state(TASK)
    await state.aset("another", "x" * 100_000)
    assert [method for method, _ in proxy.requests] == ["PUT"]
    proxy.requests.clear()
    assert await state.aget("another") == "x" * 100_000
    assert [method for method, _ in proxy.requests] == ["GET"]
    proxy.requests.clear()
    await state.aset_many({f"k{n}": n for n in range(20)})
    assert await state.aget_many([f"k{n}" for n in range(20)]) == {f"k{n}": n for n in range(20)}
    assert len(proxy.requests) == 40
    assert all(each.startswith("some/prefix/dag/run/task/-1/") for each in s3.objects(bucket))
    await state.aclear()
    assert s3.objects(bucket) == []


@pytest.mark.parametrize("whole", [True, False])
async def test_large_values(
    store: Store, s3: Server, bucket: str, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not whole:
        monkeypatch.setattr(content, "WHOLE", 1000)
    value = {"text": "ä" * 4_000_000, "numbers": list(range(10_000))}
    await store.task_state(TASK).aset("large", value)
    assert await store.task_state(TASK).aget("large") == value


async def test_one_failure_is_not_noticed(store: Store, proxy: Proxy) -> None:
    state = store.task_state(TASK)
    proxy.fail("PUT", "unavailable")
    proxy.fail("GET", "unavailable")
    await state.aset("key", "new")
    assert await state.aget("key") == "new"
    assert proxy.faults == []


async def test_503_for_long(store: Store, proxy: Proxy) -> None:
    proxy.fail("PUT", "unavailable", 2)
    await refused(store, "could not write", "503")
    proxy.fail("GET", "unavailable", 2)
    with pytest.raises(WorkerBackendError, match=r"could not read.*503"):
        await store.task_state(TASK).aget("key")
    assert await store.task_state(TASK).aget("key") == "new"


async def test_no_answer(store: Store, proxy: Proxy) -> None:
    proxy.fail("PUT", "silent", 2)
    await refused(store, "could not write")
    proxy.fail("GET", "silent", 2)
    with pytest.raises(WorkerBackendError, match="could not read"):
        await store.task_state(TASK).aget("key")
    assert await store.task_state(TASK).aget("key") == "new"


async def test_a_connection_cut_in_the_middle_of_a_put(store: Store, proxy: Proxy, s3: Server, bucket: str) -> None:
    proxy.fail("PUT", "cut", 2)
    await refused(store, "could not write")
    proxy.fail("PUT", "lost", 2)  # it is there, and nobody said so
    state = store.task_state(TASK)
    with pytest.raises(WorkerBackendError):
        await state.aset("key", "newer")
    assert await state.aget("key") == "new"
    await state.aset("key", "newest")
    assert await state.aget("key") == "newest"


async def test_a_connection_cut_in_the_middle_of_a_get(store: Store, proxy: Proxy) -> None:
    state = store.task_state(TASK)
    await state.aset("key", "x" * 1_000_000)
    proxy.fail("GET", "cut", 10)
    with pytest.raises(WorkerBackendError, match="could not read"):
        await state.aget("key")
    proxy.faults.clear()
    assert await state.aget("key") == "x" * 1_000_000


async def test_wrong_credentials(store: Store, proxy: Proxy) -> None:
    proxy.fail("PUT", "denied")
    await refused(store, "access is denied", "403")
    proxy.fail("GET", "denied")
    with pytest.raises(WorkerBackendError, match="access is denied"):
        await store.task_state(TASK).aget("key")


async def test_a_missing_bucket(proxy: Proxy, bucket: str, s3: Server) -> None:
    async with store_on("s3://lake@no-such-bucket/", MemoryBackend()) as store:
        with pytest.raises(WorkerBackendError, match="there is no such bucket"):
            await store.task_state(TASK).aset("key", 1)
        assert await store.task_state(TASK).aget("key") is None
    backend = MemoryBackend()
    async with store_on(f"s3://lake@{bucket}/", backend) as store:
        await store.task_state(TASK).aset("key", 1)
    async with store_on("s3://lake@no-such-bucket/", backend) as store:
        with pytest.raises(WorkerBackendError, match="there is no such bucket"):
            await store.task_state(TASK).aget("key")


@pytest.mark.parametrize("harm", ["deleted", "overwritten"])
async def test_an_object_that_is_changed_behind_our_back(store: Store, s3: Server, bucket: str, harm: str) -> None:
    state = store.task_state(TASK)
    [name] = s3.objects(bucket)
    if harm == "deleted":
        s3.client.delete_object(Bucket=bucket, Key=name)
    else:
        s3.client.put_object(Bucket=bucket, Key=name, Body=b"something else")
    with pytest.raises(BrokenReferenceError, match=r"'key'.*next set"):
        await state.aget("key")
    await state.aset("key", "new")
    assert await state.aget("key") == "new"


async def test_half_a_set_many_that_fails_leaves_the_old_values(store: Store, proxy: Proxy) -> None:
    state = store.task_state(TASK)
    await state.aset_many({"a": 1, "b": 1})
    proxy.fail("PUT", "denied")
    with pytest.raises(WorkerBackendError):
        await state.aset_many({"a": 2, "b": 2})
    assert await state.aget_many(["a", "b"]) == {"a": 1, "b": 1}
    await state.aset_many({"a": 2, "b": 2})
    assert await state.aget_many(["a", "b"]) == {"a": 2, "b": 2}


async def test_an_object_that_cannot_be_removed_is_removed_later(
    store: Store, proxy: Proxy, s3: Server, bucket: str
) -> None:
    state = store.task_state(TASK)
    proxy.fail("POST", "denied", 2)
    proxy.fail("DELETE", "denied", 2)
    await state.adelete("key")
    assert await state.aget("key") is None
    assert len(s3.objects(bucket)) == 1
    proxy.faults.clear()
    assert (await store.acleanup()).objects == 1
    assert s3.objects(bucket) == []


async def test_a_lost_race_and_a_deleted_run_leave_nothing(store: Store, s3: Server, bucket: str) -> None:
    state = store.task_state(TASK)
    before = s3.objects(bucket)
    with pytest.raises(VersionConflictError):
        await state.aset("key", "new", if_version=0)
    assert s3.objects(bucket) == before
    await state.aset("short", 1, retention=timedelta(days=1))
    await store.adelete_run("dag", "run")
    assert s3.objects(bucket) == []


@pytest.mark.parametrize("refused", ["conditional", "every"])
async def test_whose_the_bucket_is_may_be_refused(
    proxy: Proxy,
    bucket: str,
    s3: Server,
    refused: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    put = Objects.put

    async def refusing(self: Objects, path: str, data: bytes, *, only_new: bool = False) -> bool:
        if path == MARKER and (only_new or refused == "every"):
            raise WorkerBackendError("not implemented")
        return await put(self, path, data, only_new=only_new)

    monkeypatch.setattr(Objects, "put", refusing)
    async with store_on(f"s3://lake@{bucket}/", MemoryBackend()) as store:
        with caplog.at_level(logging.WARNING, "asyncstore"):
            await store.task_state(TASK).aset("key", 1)
        assert await store.task_state(TASK).aget("key") == 1
        assert ("not implemented" in caplog.text) == (refused == "every")
        await store.acleanup()
    found = s3.client.list_objects_v2(Bucket=bucket)["Contents"]
    assert (MARKER in [each["Key"] for each in found]) == (refused == "conditional")


async def test_several_at_once(store: Store, proxy: Proxy) -> None:
    state = store.task_state(TASK)
    await asyncio.gather(*(state.aset(f"k{n}", n) for n in range(50)))
    assert await asyncio.gather(*(state.aget(f"k{n}") for n in range(50))) == list(range(50))


async def test_a_cancelled_write_leaves_the_old_value(store: Store, proxy: Proxy) -> None:
    state = store.task_state(TASK)
    proxy.fail("PUT", "silent", 2)
    task = asyncio.create_task(state.aset("key", "new"))
    while not any(method == "PUT" for method, _ in proxy.requests):  # noqa: ASYNC110 - the proxy is in a thread
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await state.aget("key") == "old"


def test_sync_calls_and_their_errors(proxy: Proxy, bucket: str) -> None:
    with store_on(f"s3://lake@{bucket}/", MemoryBackend()) as store:
        state = store.task_state(TASK)
        state.set("key", "old")
        proxy.fail("PUT", "denied")
        with pytest.raises(StoreError, match="access is denied"):
            state.set("key", "new")
        assert state.get("key") == "old"
