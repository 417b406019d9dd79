"""Worker-side backends of a third party, which overwrite in place."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import AsyncGenerator
from typing import Any, ClassVar

import pytest

from asyncstore import (
    Asset,
    AssetScope,
    BrokenReferenceError,
    ConfigurationError,
    InlineValueWarning,
    JsonValue,
    MemoryBackend,
    Store,
    UnsupportedOperationError,
    ValueTooLargeError,
    WorkerBackendError,
)
from asyncstore.offload.stored import Reference, is_reference
from asyncstore.settings import StateStoreSettings
from tests.offload.backends import DictBackend, NoHooks, TaskOnly
from tests.offload.support import TASK, open_with, path

pytestmark = pytest.mark.anyio

ORDERS = Asset("orders", uri="s3://orders")


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
async def store(backend: MemoryBackend) -> AsyncGenerator[Store]:
    async with open_with(DictBackend, backend) as store:
        yield store


async def test_values_are_with_the_worker_and_references_in_the_store(store: Store, backend: MemoryBackend) -> None:
    value = {"b": [1, 2.5, None], "a": "ä😀"}
    task, asset = store.task_state(TASK), store.asset_state[ORDERS]
    await task.aset("a key/€", value)
    await asset.aset("watermark", (1, 2))
    assert await task.aget("a key/€") == value
    assert await asset.aget("watermark") == [1, 2]
    assert set(DictBackend.objects) == {f"dict://task/{TASK.ti_id}/a key/€", "dict://asset/orders/watermark"}
    row = await backend.aget(TASK, "a key/€")
    assert row is not None
    assert is_reference(row)
    assert Reference.parse(row).text == row
    assert threading.get_ident() not in DictBackend.threads
    assert (await task.aget_many(["a key/€", "none"])) == {"a key/€": value}
    entry = await task.aget_entry("a key/€")
    assert entry is not None
    assert entry.value == value


async def test_an_asset_by_its_id_or_uri_goes_by_its_registered_name(store: Store) -> None:
    record = await store.aregister(ORDERS)
    for scope in (AssetScope(record.scope.asset_id), AssetScope(uri=ORDERS.uri), AssetScope(name="orders")):
        await store.asset_state[scope].aset("key", 1)
    assert set(DictBackend.objects) == {"dict://asset/orders/key"}


def test_sync_calls_do_the_same(backend: MemoryBackend) -> None:
    with open_with(DictBackend, backend) as store:
        store.task_state(TASK).set("key", "value")
        assert store.task_state(TASK).get("key") == "value"
        assert store.task_state(TASK).get_many(["key"]) == {"key": "value"}
        store.task_state(TASK).delete("key")
    assert DictBackend.removed == [(TASK, "key")]


async def test_watching_gives_values(store: Store) -> None:
    state = store.task_state(TASK)
    await state.aset("key", 1)
    values = state.awatch("key")
    assert await anext(values) == 1
    await state.aset("key", 2)
    assert await anext(values) == 2


@pytest.mark.parametrize(
    "value", ["@", '@{"at":"x"}', "&", {"at": "x"}, Reference("a", 1, "b").text, Reference("a", 1, "b", "c").text]
)
async def test_no_value_is_taken_for_a_reference(value: Any, backend: MemoryBackend) -> None:
    async with open_with(None, backend) as plain:
        await plain.task_state(TASK).aset("key", value)
        assert await plain.task_state(TASK).aget("key") == value
    async with open_with(DictBackend, backend) as store:
        with pytest.warns(InlineValueWarning):
            assert await store.task_state(TASK).aget("key") == value
        await store.task_state(TASK).aset("key", value)
        assert await store.task_state(TASK).aget("key") == value


async def test_a_value_written_without_the_backend_warns_once_and_reads_as_it_is(backend: MemoryBackend) -> None:
    async with open_with(None, backend) as plain:
        await plain.task_state(TASK).aset("key", 1)
    async with open_with(DictBackend, backend) as store:
        with pytest.warns(InlineValueWarning, match=r"'key' of task dag/run/task.*DictBackend") as warned:
            assert await store.task_state(TASK).aget("key") == 1
        assert [each.filename for each in warned] == [__file__]
        assert await store.task_state(TASK).aget("key") == 1
        await store.task_state(TASK).aset("key", 2)
        assert await store.task_state(TASK).aget("key") == 2


async def test_a_reference_without_the_backend_names_the_option(store: Store, backend: MemoryBackend) -> None:
    await store.task_state(TASK).aset("key", 1)
    async with open_with(None, backend) as plain:
        with pytest.raises(ConfigurationError, match=r"\[workers\] state_backend"):
            await plain.task_state(TASK).aget("key")
    async with open_with(TaskOnly, backend) as other:
        with pytest.raises(ConfigurationError, match=rf"{re.escape(path(DictBackend))}.*\[workers\] state_backend"):
            await other.task_state(TASK).aget("key")


@pytest.mark.parametrize("harm", ["missing", "other", "none", "no json"])
async def test_what_does_not_match_its_row_is_broken_and_the_next_set_repairs_it(store: Store, harm: str) -> None:
    state = store.task_state(TASK)
    await state.aset("key", {"a": 1})
    [place] = DictBackend.objects
    if harm == "missing":
        del DictBackend.objects[place]
    else:
        DictBackend.objects[place] = {"other": '{"a":2}', "none": "null", "no json": "{"}[harm]
    with pytest.raises(WorkerBackendError if harm == "no json" else BrokenReferenceError, match="'key'"):
        await state.aget("key")
    with pytest.raises(WorkerBackendError if harm == "no json" else BrokenReferenceError):
        await state.aget_many(["key"])
    with pytest.raises(WorkerBackendError if harm == "no json" else BrokenReferenceError):
        await state.aget_entry("key")
    await state.aset("key", {"a": 3})
    assert await state.aget("key") == {"a": 3}


async def test_a_hook_that_fails_is_told_of_and_the_old_value_stays(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = store.task_state(TASK)
    await state.aset("key", 1)

    def fail(*args: Any, **kwargs: Any) -> str:
        raise OSError("no route")

    with monkeypatch.context() as patched:
        patched.setattr(DictBackend, "serialize_task_store_to_ref", fail)
        with pytest.raises(WorkerBackendError, match=r"DictBackend could not keep.*'key'.*OSError: no route"):
            await state.aset("key", 2)
    assert await state.aget("key") == 1


async def test_what_could_not_be_undone_is_refused(store: Store) -> None:
    state = store.task_state(TASK)
    refused: list[Any] = [
        state.aset("key", 1, if_version=0),
        state.aset_many({"key": 1}),
        state.aupdate("key", lambda _: 1),
        state.aadvance("key", 1),
        state.aset("key", 1, session=object()),
        state.adelete("key", session=object()),
    ]
    for call in refused:
        with pytest.raises(UnsupportedOperationError, match="DictBackend"):
            await call
    assert DictBackend.objects == {}


async def test_one_pair_of_hooks_leaves_the_other_state_alone(backend: MemoryBackend) -> None:
    async with open_with(TaskOnly, backend) as store:
        await store.task_state(TASK).aset("key", {"big": [1] * 1000})
        assert await store.task_state(TASK).aget("key") == {"big": [1] * 1000}
        asset = store.asset_state[ORDERS]
        await asset.aset("key", 1, if_version=0)
        assert await asset.aupdate("key", lambda before: before + 1) == 2
        await asset.aset_many({"a": 1, "b": 2})
        assert await asset.aget_many(["key", "a", "b"]) == {"key": 2, "a": 1, "b": 2}
        with pytest.raises(ValueError, match="nan"):
            await asset.aset("key", float("nan"))
    assert list(TaskOnly.objects) == [f"{TASK.ti_id}/key"]


async def test_the_row_goes_first_and_then_the_object(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    state, asset = store.task_state(TASK), store.asset_state[ORDERS]
    await state.aset("key", 1)
    await asset.aset("key", 1)
    await state.adelete("key")
    await state.aclear(all_map_indices=True)
    await asset.aclear()
    scope = (await store.aregister(ORDERS)).scope
    assert DictBackend.removed == [(TASK, "key"), (TASK, True), (scope, False)]
    await state.aset("key", 2)

    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError("no route")

    monkeypatch.setattr(DictBackend, "delete", fail)
    with caplog.at_level(logging.WARNING, "asyncstore"):
        await state.adelete("key")
    assert "no route" in caplog.text
    assert await state.aget("key") is None


async def test_checkpoints_and_payloads_stay_in_the_store(store: Store) -> None:
    watcher = await store.aclaim_watcher(ORDERS, "watcher", owner="me")
    await watcher.acommit(await watcher.prepare({"a": 1}, None, {"watermark": 7}))
    assert DictBackend.objects == {}
    assert await watcher.asset_state.aget("watermark") == 7  # and does not warn
    with pytest.raises(TypeError, match=r"value\['x'\] is a set"):
        await watcher.prepare(None, None, {"watermark": {"x": {1}}})


async def test_bad_values_are_refused_before_a_hook_is_called(store: Store) -> None:
    for value in (None, {"a": float("nan")}, "\ud800", {1: 2}, [0] * 1000 + [{1}], ["x" * 100_000, float("inf")]):
        with pytest.raises((TypeError, ValueError)):
            await store.task_state(TASK).aset("key", value)
    assert DictBackend.objects == {}


async def test_the_limit_is_for_what_is_stored(backend: MemoryBackend) -> None:
    settings = StateStoreSettings(max_value_storage_bytes=1000)
    async with open_with(DictBackend, backend, state_store=settings) as store:
        await store.task_state(TASK).aset("key", "x" * 100_000)
        with pytest.raises(ValueTooLargeError):
            await store.task_state(TASK).aset("k" * 500, 1)


class Odd(DictBackend):
    """Made wherever it is, and with references that are no text."""

    made_in: ClassVar[list[int]] = []

    def __init__(self) -> None:
        self.made_in.append(threading.get_ident())

    def serialize_task_store_to_ref(self, *, value: JsonValue, key: str, ti_id: str) -> str:
        return "half \ud800"


async def test_a_backend_is_not_made_on_the_event_loop() -> None:
    async with open_with(Odd):
        pass
    assert len(Odd.made_in) == 1
    assert threading.get_ident() not in Odd.made_in


async def test_a_reference_that_is_no_text_is_refused() -> None:
    async with open_with(Odd) as store:
        with pytest.raises(WorkerBackendError, match="surrogate"):
            await store.task_state(TASK).aset("key", 1)
        assert await store.task_state(TASK).aget("key") is None


@pytest.mark.parametrize(
    ("where", "cause"),
    [
        ("nothing.here.Class", "cannot be imported"),
        (path(NoHooks), "defines neither serialize_task_store_to_ref"),
        ("asyncstore.connect", "no subclass"),
        ("Class", "no dotted path"),
    ],
)
async def test_a_wrong_path_fails_at_start(where: str, cause: str) -> None:
    from asyncstore import Settings, WorkersSettings, connect

    with pytest.raises(ConfigurationError, match=rf"\[workers\] state_backend.*{cause}"):
        async with connect(backend=MemoryBackend(), settings=Settings(workers=WorkersSettings(state_backend=where))):
            pass
