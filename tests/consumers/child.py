"""A consumer in a process of its own, which may kill itself at an await.

usage: child.py URL HOW AT COUNT

`plain` tells each event on stdout before it goes on; `exactly` writes it to the table `handled` in the event's
transaction, and to asset state; `broken` writes there in a transaction of its own, to prove the tests. AT is the number
of the await before which SIGKILL comes, 0 for none; it ends after COUNT events, or when none came for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from asyncstore import ConsumerSettings, DeliveredEvent, Settings, Store, connect

from .support import ORDERS, stepping

#: Short, so that what a killed process had comes again soon.
LEASE = ConsumerSettings(lease=0.5, heartbeat=0.1, poll_interval=0.02, prefetch=4, max_attempts=0)
INSERT = text("INSERT INTO handled (event_id, pid) VALUES (:event_id, :pid)")
#: Seconds without an event after which the log is taken for done: longer than a lease.
QUIET = 2.0


class Handling:
    """Handle one event after the other."""

    def __init__(self, store: Store, url: str, how: str) -> None:
        self.store = store
        self.how = how
        self.engine = create_async_engine(url)

    async def one(self, events: Any) -> None:
        event: DeliveredEvent = await anext(events)
        row = {"event_id": event.id, "pid": os.getpid()}
        if self.how == "plain":
            sys.stdout.write(f"{event.payload}\n")
            sys.stdout.flush()
            await asyncio.sleep(0.01)
        elif self.how == "exactly":
            async with event.transaction() as session:
                await session.execute(INSERT, row)
                state = self.store.asset_state[ORDERS]
                await state.aset(f"event {event.id}", row["pid"], session=session)
        else:
            async with self.engine.begin() as connection:
                await connection.execute(INSERT, row)


async def main(url: str, how: str, at: str, count: str) -> None:
    async with connect(url, settings=Settings(consumers=LEASE)) as store:
        handling = Handling(store, url, how)
        async with store.events(ORDERS, consumer="loader") as consumer:
            events = aiter(consumer)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(QUIET):
                    await handling.one(events)  # what follows is the same each time

            async def work() -> None:
                for _ in range(int(count)):
                    async with asyncio.timeout(QUIET):
                        await handling.one(events)

            def stop(number: int) -> None:
                if number == int(at):
                    os.kill(os.getpid(), signal.SIGKILL)

            with contextlib.suppress(TimeoutError):
                await stepping(work(), stop)
        await handling.engine.dispose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
