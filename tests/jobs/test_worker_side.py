"""What is known of a job stays in the store, whatever keeps the values of the worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from asyncstore import (
    BaseStoreBackend,
    CommonIoSettings,
    CommonSettings,
    MemoryBackend,
    MetastoreBackend,
    ObjectStorageBackend,
    Store,
)
from tests.jobs.fake import KEY, TASK, Job, Runner, attempt
from tests.offload.backends import DictBackend, TaskOnly, emptied
from tests.offload.support import open_with

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def empty() -> Generator[None]:
    with emptied():
        yield


@pytest.fixture(params=["memory", "file", "postgresql"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> BaseStoreBackend:
    if request.param == "postgresql":
        return MetastoreBackend(str(request.getfixturevalue("database_url")))
    return MemoryBackend() if request.param == "memory" else MetastoreBackend(f"sqlite+aiosqlite:///{tmp_path}/a.db")


@pytest.fixture(params=[ObjectStorageBackend, DictBackend, TaskOnly], ids=["folder", "in place", "in place, async"])
def worker(request: pytest.FixtureRequest) -> type[BaseStoreBackend]:
    kind: type[BaseStoreBackend] = request.param
    return kind


@pytest.fixture
async def store(backend: BaseStoreBackend, worker: type[BaseStoreBackend], tmp_path: Path) -> AsyncGenerator[Store]:
    async with backend, open_with(worker, backend, common=in_folder(tmp_path)) as store:
        yield store


def in_folder(tmp_path: Path) -> CommonSettings:
    return CommonSettings(io=CommonIoSettings(state_store_objectstorage_path=f"file://{tmp_path}/objects/"))


@pytest.fixture
def objects(tmp_path: Path) -> Callable[[], int]:
    """Give a function that counts what any of them keeps."""

    def count() -> int:
        files = [each for each in (tmp_path / "objects").rglob("*") if each.is_file() and each.name != "!asyncstore"]
        return len(files) + len(DictBackend.objects) + len(TaskOnly.objects)

    return count


async def test_the_record_and_a_kept_result_stay_in_the_store(store: Store, objects: Callable[[], int]) -> None:
    job = Job(Runner())
    job.keep_result = True
    assert [await attempt(store, job) for _ in range(2)] == ["result of job-0"] * 2
    assert objects() == 0
    row = await store.backend.aget(TASK, KEY)
    assert row is not None
    assert '"result":"result of job-0"' in row
    record: dict[str, Any] = await store.task_state(TASK).aget(KEY)  # and does not warn
    assert record["job_id"] == "job-0"
    await store.task_state(TASK).aset("mine", 1)
    assert objects() == 1


async def test_attempts_at_once_follow_one_job(store: Store) -> None:
    for _ in range(10):
        await store.task_state(TASK).aclear()
        runner = Runner(honours_tokens=False)  # so that those who follow another job would show it
        results = await asyncio.gather(*(attempt(store, Job(runner)) for _ in range(5)))
        assert len(set(results)) == 1


@pytest.mark.parametrize("worker", [DictBackend], indirect=True)
async def test_nothing_is_removed_where_nothing_was_kept(store: Store) -> None:
    await attempt(store, Job(Runner()))
    await Job(Runner()).aforget(store.task_state(TASK))
    assert DictBackend.removed == []
    await store.task_state(TASK).aclear()
    assert DictBackend.removed == [(TASK, False)]
