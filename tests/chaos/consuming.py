"""A consumer of every asset, in a process of its own.

usage: consuming.py URL NAME OUT: with OUT a file, each event is appended to it; with "-", each is written to the table
`loaded` in the transaction of the event
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from datetime import timedelta

import anyio
from sqlalchemy import text

from asyncstore import Asset, ConsumerSettings, DeliveredEvent, Settings, Store, StoreError, connect

from .watching import KINDS

ASSETS = [*(f"kind {kind}" for kind in range(KINDS)), "inbox"]


class Consuming:
    """Handles events until it is killed."""

    def __init__(self, store: Store, name: str, out: str) -> None:
        self._store = store
        self._name = name
        self._out = None if out == "-" else os.open(out, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def handle(self, event: DeliveredEvent) -> None:
        if self._out is not None:
            os.write(self._out, f"{event.id}\n".encode())
            return
        async with event.transaction() as session:
            await session.execute(text("INSERT INTO loaded (id) VALUES (:id)"), {"id": event.id})

    async def consume(self, asset: str) -> None:
        while True:
            try:
                async for event in self._store.events(Asset(asset), consumer=self._name):
                    try:
                        await self.handle(event)
                    except Exception as error:  # of its own statement, too: the connection is cut
                        await event.afail(error, delay=timedelta(seconds=0.1))
            except StoreError as error:
                logging.warning("%s: %s", asset, error)
                await anyio.sleep(0.2)


async def main(url: str, name: str, out: str) -> None:
    # Nothing is set aside, however often its process is killed.
    consumers = ConsumerSettings(lease=3.0, heartbeat=0.5, max_attempts=1_000_000, retry_delay=0.1, retry_delay_max=0.5)
    async with connect(url, settings=Settings(consumers=consumers)) as store:
        consuming = Consuming(store, name, out)
        async with anyio.create_task_group() as tasks:
            for asset in ASSETS:
                tasks.start_soon(consuming.consume, asset)


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout, format="%(asctime)s %(message)s", level=logging.INFO)
    asyncio.run(main(*sys.argv[1:]))
