"""The bare asyncpg, on a table as simple as a table can be, in two ways."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from ..databases.postgres import asyncpg
from ..measuring.data import TEXTS
from ..measuring.loop import Kind, Operation
from .abc import AsyncContender

__all__ = ["CONNECTIONS", "HeldConnections", "PooledConnections", "fill"]

CONNECTIONS = 10
_SELECT = "SELECT value FROM kept WHERE key = $1"
_UPSERT = "INSERT INTO kept (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value"


async def fill(dsn: str, keys: Sequence[str]) -> None:
    """Make the table.

    :param dsn: an empty database.
    :param keys: the keys.
    """
    raw = await asyncpg().connect(dsn)
    try:
        await raw.execute('CREATE TABLE kept (key text COLLATE "C" PRIMARY KEY, value text NOT NULL)')
        rows = [(key, TEXTS[number % len(TEXTS)]) for number, key in enumerate(sorted(keys))]
        await raw.copy_records_to_table("kept", records=rows)
        await raw.execute("VACUUM ANALYZE kept")
    finally:
        await raw.close()


class _Held:
    """One connection with its prepared statements."""

    def __init__(self, get: Any, put: Any) -> None:
        self.get = get
        self.put = put


class HeldConnections(AsyncContender):
    """Ten connections that are never given back, with prepared statements: the most that one query a call can give.

    Whoever waits gets a connection from the hand of who is done with it, in the order of asking.

    :param name: the name.
    :param keys: rows that are there.
    :param runner: runs the loop.
    :param dsn: the database.
    :param query: how a key is read; of a table of one's own by default.
    :param count: how many connections.
    """

    def __init__(
        self,
        name: str,
        keys: Sequence[str],
        runner: asyncio.Runner,
        dsn: str,
        query: str = _SELECT,
        count: int = CONNECTIONS,
    ) -> None:
        super().__init__(name, keys, runner)
        self._dsn = dsn
        self._query = query
        self._count = count
        self._stack = AsyncExitStack()
        self._free: list[_Held] = []
        self._waiting: deque[asyncio.Future[_Held]] = deque()

    async def aopen(self) -> Mapping[Kind, Operation]:
        """Connect and prepare."""
        writes = "set" in self.kinds
        for _ in range(self._count):
            raw = await asyncpg().connect(self._dsn)
            self._stack.push_async_callback(raw.close)
            self._free.append(_Held(await raw.prepare(self._query), await raw.prepare(_UPSERT) if writes else None))
        return {"get": self._get, "set": self._set}

    async def aclose(self) -> None:
        """Disconnect."""
        await self._stack.aclose()

    async def _taken(self) -> _Held:
        if self._free:
            return self._free.pop()
        turn: asyncio.Future[_Held] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        return await turn

    def _give_back(self, held: _Held) -> None:
        if self._waiting:
            self._waiting.popleft().set_result(held)
        else:
            self._free.append(held)

    async def _get(self, key: str, _: int) -> object:
        held = self._free.pop() if self._free else await self._taken()
        try:
            return await held.get.fetchval(key)
        finally:
            self._give_back(held)

    async def _set(self, key: str, number: int) -> object:
        held = self._free.pop() if self._free else await self._taken()
        try:
            return await held.put.fetchval(key, TEXTS[number % len(TEXTS)])
        finally:
            self._give_back(held)


class PooledConnections(AsyncContender):
    """`asyncpg.Pool` of ten: a connection is taken from it, and reset, for every operation.

    :param name: the name.
    :param keys: rows that are there.
    :param runner: runs the loop.
    :param dsn: the database.
    """

    def __init__(self, name: str, keys: Sequence[str], runner: asyncio.Runner, dsn: str) -> None:
        super().__init__(name, keys, runner)
        self._dsn = dsn
        self._stack = AsyncExitStack()

    async def aopen(self) -> Mapping[Kind, Operation]:
        """Connect."""
        pool = await asyncpg().create_pool(self._dsn, min_size=CONNECTIONS, max_size=CONNECTIONS)
        self._stack.push_async_callback(pool.close)
        count = len(TEXTS)
        return {
            "get": lambda key, _: pool.fetchval(_SELECT, key),
            "set": lambda key, number: pool.execute(_UPSERT, key, TEXTS[number % count]),
        }

    async def aclose(self) -> None:
        """Disconnect."""
        await self._stack.aclose()
