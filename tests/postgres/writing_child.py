"""A process that writes: keys of its own, and a counter that others count up at the same time.

usage: writing_child.py URL NAME

For each line that it hears it does one thing, and says what came of it: `open` opens a connection anew to write with,
and a number writes so often and gives the versions of the counter. It ends with what it hears.
"""

from __future__ import annotations

import asyncio
import json
import sys

from asyncstore import Commit, MetastoreBackend, Put, TaskScope, VersionConflictError

COUNTER = TaskScope("dag", "run", "counter")
LANES = 4


async def count(backend: MetastoreBackend) -> int:
    """Count up by one; gives the version."""
    while True:
        entry = await backend.aget_entry(COUNTER, "count")
        value, version = (0, 0) if entry is None else (int(entry.text), entry.version)
        change = Put(COUNTER, "count", str(value + 1), if_version=version)
        try:
            return (await backend.acommit(Commit((change,)))).versions[0]
        except VersionConflictError:
            pass


async def write(backend: MetastoreBackend, name: str, times: int) -> list[int]:
    """Write, in several lanes at once; gives the versions of the counter."""

    async def lane(number: int) -> list[int]:
        own = TaskScope("dag", "run", f"{name} {number}")
        versions: list[int] = []
        for each in range(times):
            await backend.aset(own, "key", str(each))
            await backend.acommit(Commit((Put(own, "a", str(each)), Put(own, "b", str(each)))))
            versions.append(await count(backend))
        return versions

    return [version for versions in await asyncio.gather(*map(lane, range(LANES))) for version in versions]


async def main(url: str, name: str) -> None:
    backend = MetastoreBackend(url, operation_timeout=30.0, pool_size=1)
    while line := await asyncio.to_thread(sys.stdin.readline):
        asked = json.loads(line)
        if asked == "open":
            await backend.aclose()
            await backend.aopen()
            await backend.aset(TaskScope("dag", "run", name), "key", "1")
            await backend.aget(COUNTER, "count")
            answer: list[int] = []
        else:
            answer = await write(backend, name, asked)
        print(json.dumps(answer), flush=True)
    await backend.aclose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
