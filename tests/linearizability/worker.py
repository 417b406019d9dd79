"""One of several processes that work on the same few keys at once, and tell what each call came to.

usage: worker.py URL OPTIONS NUMBER SEED TASKS CALLS

Says `ready`, waits for a line, and in the end prints every operation.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from time import monotonic_ns
from typing import Any

from asyncstore import (
    Asset,
    Commit,
    CommitResult,
    Delete,
    MetastoreBackend,
    Put,
    Scope,
    TaskScope,
    VersionConflictError,
)
from tests.linearizability.history import Operation, dump

ALONE = TaskScope("dag", "run", "alone")
SHARED = TaskScope("dag", "run", "shared", 3)
ORDERS = Asset("orders")

#: How often each is called.
WEIGHTS = {"get": 6, "get_many": 1, "get_entry": 2, "set": 4, "set_pair": 1, "set_if": 4, "delete": 2, "give_up": 1}


@dataclass(frozen=True)
class Place:
    """A key and whose it is."""

    scope: Scope
    key: str
    name: str


class Worker:
    """Several tasks of one process.

    :param backend: what is called.
    :param places: the keys.
    :param number: of the process.
    """

    def __init__(self, backend: MetastoreBackend, places: list[Place], number: int, chance: random.Random) -> None:
        self.history: list[Operation] = []
        self._backend = backend
        self._places = places
        self._number = number
        self._chance = chance
        self._written = 0
        self._versions = {place.name: 0 for place in places}

    async def run(self, calls: int) -> None:
        """Make calls, one after the other."""
        kinds = self._chance.choices(list(WEIGHTS), list(WEIGHTS.values()), k=calls)
        for kind in kinds:
            place = self._chance.choice(self._places)
            await getattr(self, f"_{kind}")(place)
            for _ in range(self._chance.randrange(3)):
                await asyncio.sleep(0)

    def _value(self) -> str:
        self._written += 1
        return json.dumps(f"{self._number}-{self._written}")

    def _note(self, operation: Operation, **rest: Any) -> None:
        self.history.append(replace(operation, returned=monotonic_ns(), **rest))
        if (version := rest.get("version", rest.get("actual"))) is not None:
            self._versions[operation.key] = version

    async def _get(self, place: Place) -> None:
        asked = Operation(place.name, "get", monotonic_ns(), None)
        self._note(asked, value=await self._backend.aget(place.scope, place.key))

    async def _get_many(self, place: Place) -> None:
        places = [each for each in self._places if each.scope == place.scope]
        asked = [Operation(each.name, "get", monotonic_ns(), None) for each in places]
        found = await self._backend.aget_many(place.scope, [each.key for each in places])
        for each, operation in zip(places, asked, strict=True):
            self._note(operation, value=found.get(each.key))

    async def _get_entry(self, place: Place) -> None:
        asked = Operation(place.name, "get_entry", monotonic_ns(), None)
        entry = await self._backend.aget_entry(place.scope, place.key)
        if entry is None:
            self._note(asked, version=0)
        else:
            self._note(asked, value=entry.text, version=entry.version)

    async def _set(self, place: Place, if_version: int | None = None) -> None:
        value = self._value()
        asked = Operation(place.name, "set", monotonic_ns(), None, value, if_version=if_version)
        try:
            made = await self._commit(Put(place.scope, place.key, value, if_version=if_version))
        except VersionConflictError as error:
            self._note(asked, actual=error.actual)
        else:
            self._note(asked, version=made.versions[0])

    async def _set_pair(self, place: Place) -> None:
        places = [each for each in self._places if each.scope == place.scope]
        self._chance.shuffle(places)
        puts = [Put(each.scope, each.key, self._value()) for each in places]
        asked = [
            Operation(each.name, "set", monotonic_ns(), None, put.value) for each, put in zip(places, puts, strict=True)
        ]
        made = await self._commit(*puts)
        for operation, version in zip(asked, made.versions, strict=True):
            self._note(operation, version=version)

    async def _set_if(self, place: Place) -> None:
        known = self._versions[place.name]
        await self._set(place, if_version=known if self._chance.random() < 0.9 else 0)

    async def _delete(self, place: Place) -> None:
        asked = Operation(place.name, "delete", monotonic_ns(), None)
        await self._commit(Delete(place.scope, place.key))
        self._note(asked)

    async def _give_up(self, place: Place) -> None:
        """Write, and be cancelled somewhere on the way."""
        value = self._value()
        asked = Operation(place.name, "set", monotonic_ns(), None, value)
        task = asyncio.ensure_future(self._commit(Put(place.scope, place.key, value)))
        for _ in range(self._chance.randrange(12)):
            await asyncio.sleep(0)
        task.cancel()
        try:
            made = await task
        except asyncio.CancelledError:
            self.history.append(asked)
        else:
            self._note(asked, version=made.versions[0])

    def _commit(self, *changes: Put | Delete) -> Awaitable[CommitResult]:
        return self._backend.acommit(Commit(changes))


async def main(
    url: str, options: str, number: str, seed: str, tasks: str, calls: str, wait: Callable[[], object]
) -> list[Operation]:
    async with MetastoreBackend(url, **json.loads(options)) as backend:
        orders = await backend.aregister_asset(ORDERS)
        places = [
            Place(ALONE, "key", "alone"),
            Place(SHARED, "one", "one"),
            Place(SHARED, "two", "two"),
            Place(orders, "key", "asset"),
        ]
        workers = [
            Worker(backend, places, int(number) * 100 + each, random.Random(f"{seed} {number} {each}"))
            for each in range(int(tasks))
        ]
        wait()
        await asyncio.gather(*(worker.run(int(calls)) for worker in workers))
        return [operation for worker in workers for operation in worker.history]


def wait() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    url, options, number, seed, tasks, calls = sys.argv[1:]
    for line in dump(asyncio.run(main(url, options, number, seed, tasks, calls, wait))):
        print(line)
