"""The folder watcher of tests/crash, on a database by its URL.

usage: crash_child.py URL FOLDER HOW AT
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from asyncstore import Asset, ClaimedWatcher, Commit, connect
from tests.crash.child import Killer
from triggers import AssetWatcher, FolderTrigger, Triggerer


async def main(url: str, folder: str, how: str, at: str) -> None:
    trigger = FolderTrigger(folder, settle=0, interval=0.01, once=True)
    async with connect(url) as store:
        killer = Killer(how, int(at), store.core)

        async def patched(self: ClaimedWatcher, commit: Commit) -> Any:
            return await killer(self, commit)

        ClaimedWatcher.acommit = patched  # type: ignore[method-assign]
        await Triggerer(store, [Asset("inbox", watchers=[AssetWatcher("files", trigger)])]).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
