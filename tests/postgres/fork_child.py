"""A process that forks while a store is open; the child does something with it, and ends.

usage: fork_child.py URL WHAT

Prints what became of the child, which connections the parent had before and after it, and what it wrote since.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from contextlib import ExitStack
from typing import Any

from asyncstore import MetastoreBackend, Store, TaskScope, connect
from tests.postgres.support import connected

SCOPE = TaskScope("dag", "run", "task")
_MINE = (
    "SELECT pid FROM pg_stat_activity"
    " WHERE application_name = 'asyncstore' AND datname = current_database() ORDER BY pid"
)


async def mine(url: str) -> list[int]:
    async with connected(url) as bare:
        return [row["pid"] for row in await bare.fetch(_MINE)]


def child(what: str, stack: ExitStack, backend: MetastoreBackend, store: Store) -> None:
    """Do what a child may do with a store that it did not open."""
    state = store.task_state(SCOPE)
    if what == "works":
        for number in range(5):
            state.set("child", number)
            assert state.get("child") == number
            assert state.get("key") == 1
    if what in {"works", "closes"}:
        backend.run_blocking(backend.aclose)
    elif what == "closes on a loop":
        asyncio.run(backend.aclose())
    elif what == "leaves the block":
        stack.close()
    else:
        assert what == "does nothing", what
    gc.collect()


def main(url: str, what: str) -> None:
    answer: dict[str, Any] = {}
    backend = MetastoreBackend(url)
    # A loop of the caller's, which goes on beside the loops of sync calls.
    loop = asyncio.new_event_loop()
    with ExitStack() as stack:
        store = stack.enter_context(connect(backend=backend))
        stack.callback(backend.run_blocking, backend.aclose)
        state = store.task_state(SCOPE)
        state.set("key", 1)
        assert state.get("key") == 1
        loop.run_until_complete(state.aset("loop", 1))
        answer["before"] = asyncio.run(mine(url))
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                child(what, stack, backend, store)
                status = 0
            finally:
                os._exit(status)
        answer["child"] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        found = [state.get("key"), loop.run_until_complete(state.aget("loop"))]
        state.set("key", 2)
        loop.run_until_complete(state.aset("loop", 2))
        answer["found"] = [*found, state.get("key"), loop.run_until_complete(state.aget("loop")), state.get("child")]
        answer["after"] = asyncio.run(mine(url))
        loop.run_until_complete(backend.aclose())
    loop.close()
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
