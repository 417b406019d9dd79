"""Objects that were damaged: no reader gets another value, and every error says so."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
from datetime import timedelta
from pathlib import Path

import pytest

from asyncstore import (
    Asset,
    BrokenReferenceError,
    ConfigurationError,
    ManualClock,
    MemoryBackend,
    ObjectStorageBackend,
    StoreCorruptError,
    connect,
)
from tests.offload.s3 import SECRET, Server
from tests.offload.support import TASK
from tests.offload.test_object_storage import objects, store_on

pytestmark = pytest.mark.anyio

HUGE = 64 * 1024 * 1024


@pytest.mark.parametrize("compression", [None, "gzip", "bz2", "lzma"])
async def test_a_byte_that_is_changed_is_never_another_value(tmp_path: Path, compression: str | None) -> None:
    async with store_on(tmp_path / "objects", MemoryBackend(), compression=compression) as store:
        state = store.task_state(TASK)
        await state.aset("key", ["value"] * 20)
        [name] = objects(tmp_path / "objects")
        path = tmp_path / "objects" / name
        whole = path.read_bytes()
        for position in range(len(whole)):
            path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
            # The head of a gzip file holds what means nothing; another number in ours may be that of a newer release.
            with contextlib.suppress(BrokenReferenceError, StoreCorruptError):
                assert await state.aget("key") == ["value"] * 20


async def test_a_huge_object_in_the_place_of_a_small_one_is_not_read(
    tmp_path: Path, bucket: str, s3: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"key": "key", "secret": SECRET, "endpoint_url": s3.url, "region": "us-east-1"}
    monkeypatch.setenv("ASYNCSTORE_CONN_LAKE", json.dumps(options))
    backends = (tmp_path / "objects", f"s3://lake@{bucket}/")
    for where in backends:
        async with store_on(where, MemoryBackend()) as store:
            await store.task_state(TASK).aset("key", 1)
            if isinstance(where, Path):
                [name] = objects(where)
                with (where / name).open("r+b") as file:
                    file.truncate(HUGE)
            else:
                [name] = s3.objects(bucket)
                s3.client.put_object(Bucket=bucket, Key=name, Body=bytes(HUGE))
            tracemalloc.start()
            with pytest.raises(BrokenReferenceError, match=r"'key'.*bytes"):
                await store.task_state(TASK).aget("key")
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < HUGE // 8


async def test_garbage_collection_passes_over_what_is_damaged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    root = tmp_path / "objects"
    async with connect(backend=ObjectStorageBackend(root.as_uri(), clock=clock), clock=clock) as store:
        state = store.task_state(TASK)
        for key in ("a", "b", "c"):
            await state.aset(key, 1, retention=timedelta(hours=1))
        await store.asset_state[Asset("orders")].aset("key", 1)
        for path in root.rglob("value"):
            if path.parent.name == "b" or "assets" in path.parts:
                path.write_bytes(b"nothing that was written here\n")
        with pytest.raises(StoreCorruptError, match="set the key anew, or remove the object"):
            await state.akeys()
        clock.advance(timedelta(hours=2))
        assert (await store.acleanup()).deleted == 2
        assert "dag/run/task/-1/b/value" in caplog.text
        assert "assets" not in caplog.text
        await state.aset("b", 2)
        assert await state.akeys() == ["b"]


def test_a_folder_that_cannot_be_made_is_told_of_with_its_option(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"state_store_objectstorage_path = .*file: is no folder"):
        ObjectStorageBackend((tmp_path / "file").as_uri())
