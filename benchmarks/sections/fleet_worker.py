"""A triggerer to be killed.

usage: fleet_worker.py URL COUNT [anonymous] OWNER
"""

from __future__ import annotations

import asyncio
import sys

from asyncstore import connect
from triggers import Triggerer

from .fleet import settings, watched


async def main(url: str, count: int, owner: str, *, anonymous: bool) -> None:
    """Run idle watchers until the end comes."""
    if anonymous:  # as if it were on another machine
        vars(sys.modules["triggers.harness.triggerer"])["this_process"] = lambda: None
    async with connect(url, settings=settings()) as store:
        await Triggerer(store, watched(count), owner=owner).run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[-1], anonymous="anonymous" in sys.argv))
