"""What goes to the server on all connections through the proxy."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager

import pytest

from asyncstore import MetastoreBackend, Store, connect
from asyncstore.backends.metastore.postgresql import texts
from tests.postgres.links import Link
from tests.postgres.messages import Message
from tests.postgres.proxy import Proxy
from tests.postgres.store_support import ORDERS, TASK

#: The statements of the hot path.
HOT = {name: getattr(texts, name).strip() for name in texts.__all__}


def brief(statement: str) -> str:
    """Name a statement of the hot path; else give its first words without what they are about."""
    statement = statement.strip()
    for name, text in HOT.items():
        if statement == text:
            return name
    words = re.match(r"(?:WITH\b.*?\) )?(INSERT|UPDATE|DELETE|SELECT \w+\(|\w+)", statement, re.DOTALL)
    assert words is not None, statement
    table = re.search(r"\b(?:INTO|UPDATE|FROM|JOIN) asyncstore_(\w+)", statement)
    verb = words[1].rstrip("(")
    return f"{verb} {table[1]}" if table and "(" not in words[1] else verb


class Wire:
    """What goes to the server: every message that has it answer, and so a round trip."""

    def __init__(self) -> None:
        self._prepared: dict[tuple[Link, bytes], str] = {}
        self._bound: dict[Link, str] = {}
        self.sent: list[str] = []

    def hear(self, link: Link, message: Message) -> None:
        body = message.data[5:]
        if message.kind == "P":
            name, text, _ = body.split(b"\0", 2)
            self._prepared[link, name] = text.decode()
            self._bound[link] = f"prepare {brief(text.decode())}"
        elif message.kind == "B":
            _, name, _ = body.split(b"\0", 2)
            self._bound[link] = brief(self._prepared[link, name])
        elif message.kind == "Q":
            self.sent += [brief(each) for each in body.rstrip(b"\0").decode().split(";")]
        elif message.kind in {"S", "H"}:  # the driver flushes where it waits for no more than a description
            self.sent.append(self._bound.pop(link, "sync"))

    @contextmanager
    def counting(self) -> Generator[list[str]]:
        """Give what the block sends, at its end."""
        self.sent.clear()
        found: list[str] = []
        yield found
        found += self.sent

    async def last(self, times: int, run: Callable[[], Awaitable[object]]) -> list[str]:
        """Run something several times, the first of which prepare it; gives what the last one sends."""
        for _ in range(times - 1):
            await run()
        with self.counting() as found:
            await run()
        return found


@contextmanager
def listening(monkeypatch: pytest.MonkeyPatch) -> Generator[Wire]:
    """Hear what passes every proxy."""
    wire = Wire()
    forward = Link._from_client  # pyright: ignore[reportPrivateUsage]

    async def listen(self: Link, message: Message) -> None:
        wire.hear(self, message)
        await forward(self, message)

    with monkeypatch.context() as patch:
        patch.setattr(Link, "_from_client", listen)
        yield wire


async def reset(store: Store) -> None:
    """Lay down what operations find: two keys of a task, one of an asset."""
    await store.task_state(TASK).aclear()
    await store.task_state(TASK).aset_many({"key": 1, "other": 2})
    await store.asset_state[ORDERS].aclear()
    await store.asset_state[ORDERS].aset("key", 1)


@asynccontextmanager
async def stored(proxy: Proxy, url: str) -> AsyncGenerator[Store]:
    """Open a store on the far side of a proxy."""
    async with MetastoreBackend(proxy.through(url)) as backend, connect(backend=backend) as store:
        await reset(store)
        yield store
