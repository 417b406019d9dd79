"""Writers and readers that never stop, and remember what they were told."""

from __future__ import annotations

import asyncio
from collections import Counter

from asyncstore import OutcomeUnknownError, Store, StoreClosedError, StoreError, TaskScope
from asyncstore.watchers import ClaimedWatcher
from tests.postgres.store_support import ORDERS, Looked, eventually

_TASK = TaskScope("load", "run", "task")


class Load:
    """Keep a store busy: counters, events with a key and without, and reads.

    :ivar unknown: how many writes ended in nobody knowing.
    :ivar refused: every other error.
    """

    def __init__(self, store: Store, name: str = "load", *, writers: int = 6) -> None:
        self.store = store
        self.unknown = 0
        self.refused: list[str] = []
        self._name = name
        self._writers = writers
        self._tasks: list[asyncio.Task[None]] = []
        self._done = 0
        self._stopping = False
        #: What each key was last said to hold, and what it may hold since.
        self._said: dict[str, int] = {}
        self._perhaps: dict[str, list[int]] = {}
        self._events: Counter[tuple[str, int]] = Counter()
        self._perhaps_events: Counter[tuple[str, int]] = Counter()

    async def start(self) -> None:
        """Begin, and return once all are at work."""
        jobs = [self._write(f"{self._name}{number}", number % 2 == 0) for number in range(self._writers)]
        for number, keyed in enumerate((True, False)):
            watcher = f"{self._name}-watcher{number}"
            claimed = await self.store.aclaim_watcher(ORDERS, watcher, owner="a test")
            jobs.append(self._record(claimed, watcher, keyed))
        jobs += [self._read(f"{self._name}{number}") for number in (0, 2)]
        self._tasks = [asyncio.create_task(job) for job in jobs]
        await self.progress()

    async def progress(self, steps: int = 40) -> None:
        """Wait until so many more things are done."""
        goal = self._done + steps

        def reached() -> bool:
            for task in self._tasks:
                if task.done():
                    task.result()
            return self._done >= goal

        await eventually(reached, "the load to go on")

    async def stop(self) -> None:
        """End, each after what it does."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    def _refuse(self, error: StoreError) -> None:
        if isinstance(error, StoreClosedError):  # the test has failed
            self._stopping = True
        self.refused.append(repr(error))

    async def _write(self, key: str, of_asset: bool) -> None:
        state = self.store.asset_state[ORDERS] if of_asset else self.store.task_state(_TASK)
        number = 0
        while not self._stopping:
            number += 1
            try:
                await state.aset(key, number)
            except OutcomeUnknownError:
                self.unknown += 1
                self._perhaps.setdefault(key, []).append(number)
                # What was sent may still be on its way; what is read now is not.
                await self._read_back(key, of_asset)
            except StoreError as error:
                self._refuse(error)
            else:
                self._said[key] = number
                self._perhaps[key] = []
            self._done += 1

    async def _read_back(self, key: str, of_asset: bool) -> None:
        state = self.store.asset_state[ORDERS] if of_asset else self.store.task_state(_TASK)
        try:
            found = await state.aget(key, 0)
        except StoreError as error:
            self.refused.append(repr(error))
        else:
            assert found in [self._said.get(key, 0), *self._perhaps[key]], (key, found)

    async def _read(self, key: str) -> None:
        before = 0
        while not self._stopping:
            try:
                found = await self.store.asset_state[ORDERS].aget(key, 0)
            except StoreError as error:
                self._refuse(error)
            else:
                assert found >= before, f"{key} went back from {before} to {found}"
                before = found
            self._done += 1
            await asyncio.sleep(0)

    async def _record(self, claimed: ClaimedWatcher, watcher: str, keyed: bool) -> None:
        number = 0
        while not self._stopping:
            number += 1
            key = f"{watcher}-{number}" if keyed else None
            commit = await claimed.prepare([watcher, number], key, {watcher: number})
            try:
                await claimed.acommit(commit)
            except OutcomeUnknownError:
                self.unknown += 1
                self._perhaps_events[watcher, number] += 1
            except StoreError as error:
                self._refuse(error)
            else:
                self._events[watcher, number] += 1
            self._done += 1

    def judge(self, found: Looked) -> None:
        """Hold what was said against what is in the database."""
        for key, number in self._said.items():
            kept = found.kept.values.get(("orders", key), found.kept.values.get(("task", key)))
            assert kept in [number, *self._perhaps[key]], f"{key} holds {kept}, and {number} was said to be written"
        recorded = Counter((watcher, number) for (watcher, number), _ in found.kept.events)
        assert all(count == 1 for count in recorded.values()), "an event was recorded twice"
        mine = {event for event in recorded if event[0].startswith(self._name)}
        assert self._events.keys() <= mine, "an event was lost"
        assert mine <= self._events.keys() | self._perhaps_events.keys(), "an event came from nowhere"
