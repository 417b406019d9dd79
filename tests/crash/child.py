"""A folder watcher that kills itself in the middle of a commit, whole or (to prove the test) in two halves.

usage: child.py DATABASE FOLDER HOW AT
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import replace
from typing import Any

from asyncstore import Asset, ClaimedWatcher, Commit, Event, connect
from triggers import AssetWatcher, FolderTrigger, Triggerer

acommit = ClaimedWatcher.acommit


class Killer:
    def __init__(self, how: str, at: int, core: Any) -> None:
        self.core = core
        self.how = how
        self.left = at

    def maybe_kill(self, where: str) -> None:
        if self.how == where and self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    async def __call__(self, watcher: ClaimedWatcher, commit: Commit) -> tuple[Event, bool]:
        self.left -= 1
        self.maybe_kill("before")
        checkpoint = replace(commit, events=())
        event = replace(commit, changes=())
        if self.how == "checkpoint first":
            await self.core.commit(checkpoint)
            self.maybe_kill("checkpoint first")
            return await acommit(watcher, event)
        if self.how == "event first":
            keyless = replace(event, events=(replace(event.events[0], key=None),))
            result = await acommit(watcher, keyless)
            self.maybe_kill("event first")
            await self.core.commit(checkpoint)
            return result
        result = await acommit(watcher, commit)
        self.maybe_kill("after")
        return result


async def main(database: str, folder: str, how: str, at: str) -> None:
    trigger = FolderTrigger(folder, settle=0, interval=0.01, once=True)
    async with connect(f"sqlite+aiosqlite:///{database}") as store:
        killer = Killer(how, int(at), store.core)

        async def patched(self: ClaimedWatcher, commit: Commit) -> Any:
            return await killer(self, commit)

        ClaimedWatcher.acommit = patched  # type: ignore[method-assign]
        await Triggerer(store, [Asset("inbox", watchers=[AssetWatcher("files", trigger)])]).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
