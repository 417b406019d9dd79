"""A process that is killed at any step of a write: its readers get the old value or the new one, and nothing stays."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from asyncstore import ManualClock, MetastoreBackend
from tests.offload.killed_child import STEPS
from tests.offload.support import TASK
from tests.offload.test_garbage import open_on
from tests.offload.test_object_storage import objects, store_on

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("step", [f"{name}:{when}" for name in STEPS for when in ("before", "after")])
async def test_a_kill_at_each_step_leaves_the_old_value_or_the_new_one(tmp_path: Path, step: str) -> None:
    url, root = f"sqlite+aiosqlite:///{tmp_path / 'state.db'}", tmp_path / "objects"
    async with MetastoreBackend(url) as backend, store_on(root, backend) as store:
        await store.task_state(TASK).aset("key", "old")
    command = [sys.executable, "-m", "tests.offload.killed_child", url, str(root), step]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)  # noqa: ASYNC221
    assert child.returncode == -9, child.stderr
    clock = ManualClock(datetime.now(UTC))
    async with MetastoreBackend(url, clock=clock) as backend, open_on(root, backend, clock) as store:
        state = store.task_state(TASK)
        found = await state.aget_many(["key", "other"])
        committed = step not in {"put:before", "put:after", "commit:before"}
        assert found == ({"key": "new", "other": "new"} if committed else {"key": "old"})
        await store.acleanup()  # what rows let go of is known
        clock.advance(timedelta(days=2))
        await store.acleanup()  # what no row ever knew of is found
        assert len(objects(root)) == len(found)
        assert await state.aget_many(["key", "other"]) == found
        await state.aset("key", "newer")
        assert await state.aget("key") == "newer"
