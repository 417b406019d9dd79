"""Overwrite a value whose process is killed at a step: `python -m tests.offload.killed_child URL FOLDER STEP`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from asyncstore import MetastoreBackend, ObjectStorageBackend
from asyncstore.backends.metastore.leftovers import MetastoreLeftovers
from asyncstore.backends.objects.storage import Objects
from asyncstore.core import Core
from tests.offload.support import TASK
from tests.offload.test_object_storage import store_on

#: What is called at each step of a write, in this order.
STEPS: dict[str, tuple[type[Any], str]] = {
    "put": (ObjectStorageBackend, "akeep"),
    "commit": (Core, "commit"),
    "remove": (Objects, "remove"),
    "forget": (MetastoreLeftovers, "aforget"),
}


def die(*args: object, **kwargs: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(step: str) -> None:
    name, _, when = step.partition(":")
    kind, method = STEPS[name]
    original = getattr(kind, method)

    async def after(*args: Any, **kwargs: Any) -> Any:
        await original(*args, **kwargs)
        die()

    setattr(kind, method, after if when == "after" else die)


async def main(url: str, folder: str, step: str) -> None:
    async with MetastoreBackend(url) as backend, store_on(Path(folder), backend) as store:
        state = store.task_state(TASK)
        assert await state.aget("key") == "old"
        kill_at(step)
        await state.aset_many({"key": "new", "other": "new"})


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
