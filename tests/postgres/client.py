"""A bare driver connection with types, and a thread with an event loop for calls from sync code."""

from __future__ import annotations

import asyncio
import importlib
import threading
from collections.abc import Coroutine, Mapping
from typing import Any, Protocol, Self, TypeVar, cast

from sqlalchemy.engine import make_url

from tests.postgres.processes import PATIENCE

T = TypeVar("T")


class Transaction(Protocol):
    async def __aenter__(self) -> object: ...
    async def __aexit__(self, *error: object) -> None: ...


class Connection(Protocol):
    """What the tests use of a connection of asyncpg."""

    async def execute(self, query: str, *args: object, timeout: float | None = None) -> str: ...
    async def fetch(self, query: str, *args: object, timeout: float | None = None) -> list[Mapping[str, Any]]: ...
    async def fetchval(self, query: str, *args: object, timeout: float | None = None) -> Any: ...
    async def close(self, *, timeout: float | None = None) -> None: ...
    def transaction(self) -> Transaction: ...
    def terminate(self) -> None: ...
    def is_closed(self) -> bool: ...


asyncpg: Any = importlib.import_module("asyncpg")  # it says nothing of its types


async def connect(url: str, **options: object) -> Connection:
    """Open a connection to a URL as SQLAlchemy writes them."""
    place = make_url(url)
    return cast(
        "Connection",
        await asyncpg.connect(
            host=place.query.get("host", place.host),
            port=int(cast("str", place.query.get("port", place.port or 5432))),
            user=place.username,
            password=place.password,
            database=place.database,
            **{"ssl": place.query.get("ssl", False), **options},
        ),
    )


class LoopThread:
    """An event loop in a thread of its own, which goes on whatever the test's thread does."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def run(self, job: Coroutine[Any, Any, T], *, patience: float = PATIENCE) -> T:
        """Run a coroutine there, and wait for it."""
        future = asyncio.run_coroutine_threadsafe(job, self.loop)
        try:
            return future.result(patience)
        finally:
            future.cancel()

    def close(self) -> None:
        """Cancel what still runs there, and end the thread."""
        if self.loop.is_closed():
            return
        self.run(self._cancel_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE)
        self.loop.close()

    @staticmethod
    async def _cancel_all() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
