"""A triggerer in a process of its own, with watchers that count.

usage: child.py URL OPTIONS, where OPTIONS is a JSON object
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio

from asyncstore import Asset, Settings, TriggererSettings, connect
from triggers import AssetWatcher, BaseEventTrigger, Triggerer, TriggerEvent


class Count(BaseEventTrigger):
    """Counts on from its watermark, and says how it ends."""

    def __init__(self, pause: float) -> None:
        self.pause = pause

    async def run(self) -> AsyncIterator[TriggerEvent]:
        at = await self.asset_state.aget("watermark", 0)
        while True:
            at += 1
            yield TriggerEvent(at, checkpoint={"watermark": at})
            self.asset_state[self.asset].set("beside", at)
            await anyio.sleep(self.pause)

    async def cleanup(self) -> None:
        print(f"cleanup {self.asset.name}", flush=True)

    async def on_kill(self) -> None:
        print(f"on_kill {self.asset.name}", flush=True)


def assets(names: list[str], pause: float) -> list[Asset]:
    return [Asset(name, watchers=[AssetWatcher("count", Count(pause))]) for name in names]


async def main(url: str, options: dict[str, Any]) -> None:
    if options.get("anonymous"):  # others can tell that it is gone by its lease alone
        vars(sys.modules["triggers.harness.triggerer"])["this_process"] = lambda: None
    if skew := options.get("skew"):
        time_ns = time.time_ns
        time.time_ns = lambda: time_ns() + int(skew * 1e9)
    settings = Settings(triggerer=TriggererSettings(**options["settings"]))
    async with connect(url, settings=settings) as store:
        running = Triggerer(store, assets(options["names"], options.get("pause", 0.05)), owner=options["owner"])
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.stop)
        print("ready", flush=True)
        await running.run()
    print("ended", flush=True)


if __name__ == "__main__":
    import warnings

    from asyncstore import BlockingCallWarning

    warnings.simplefilter("ignore", BlockingCallWarning)
    logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO)
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
