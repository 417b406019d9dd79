"""A triggerer with watchers of a folder and of tables, in a process of its own.

usage: watching.py URL SOURCE FOLDER OPTIONS: the store, the database with the table, the folder, and a JSON object
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import anyio
import asyncpg

from asyncstore import Asset, Settings, TriggererSettings, connect
from triggers import AssetWatcher, BaseEventTrigger, FolderTrigger, Triggerer, TriggerEvent

KINDS = 6


class TableTrigger(BaseEventTrigger):
    """One event for every row of a kind, in the order of their ids."""

    def __init__(self, source: str, kind: int) -> None:
        self.source = source
        self.kind = kind

    async def run(self) -> AsyncIterator[TriggerEvent]:
        connection = await asyncpg.connect(self.source.replace("+asyncpg", ""), timeout=10)
        try:
            while True:
                since = await self.asset_state.aget("watermark", 0)
                rows = await connection.fetch(
                    "SELECT id FROM source WHERE kind = $1 AND id > $2 ORDER BY id LIMIT 20", self.kind, since
                )
                for row in rows:
                    yield TriggerEvent({"id": row["id"]}, checkpoint={"watermark": row["id"]})
                if not rows:
                    await anyio.sleep(0.05)
        finally:
            connection.terminate()


def assets(source: str, folder: str) -> list[Asset]:
    """Give what is watched; the same in every process."""
    tables = [
        Asset(f"kind {kind}", watchers=[AssetWatcher("rows", TableTrigger(source, kind))]) for kind in range(KINDS)
    ]
    files = FolderTrigger(folder, settle=0, interval=0.05)
    return [*tables, Asset("inbox", watchers=[AssetWatcher("files", files)])]


async def main(url: str, source: str, folder: str, options: dict[str, Any]) -> None:
    settings = Settings(triggerer=TriggererSettings(**options["settings"]))
    async with connect(url, settings=settings) as store:
        running = Triggerer(store, assets(source, folder), owner=options["owner"])
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.stop)
        await running.run()


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout, format="%(asctime)s %(message)s", level=logging.INFO)
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])))
