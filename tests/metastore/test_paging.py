"""What a page of keys costs SQLite, wherever it begins."""

from __future__ import annotations

import sqlite3

import pytest

from asyncstore import Store, connect

from .support import TASK, Connections

pytestmark = pytest.mark.anyio

KEYS = [f"key-{number:04}" for number in range(400)]


async def test_a_late_page_is_sought_as_an_early_one_is(url: str, connections: Connections) -> None:
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    def prepare(raw: sqlite3.Connection) -> None:
        raw.set_progress_handler(count, 1)

    async def cost(store: Store, after: str, prefix: str = "") -> int:
        before = steps
        page = await store.browser.alist_entries(TASK, prefix, after=after, limit=10)
        place = KEYS.index(after) + 1
        assert [each.key for each in page] == KEYS[place : place + 10]
        return steps - before

    connections.prepare = prepare  # type: ignore[method-assign]
    async with connect(url) as store:
        await store.task_state(TASK).aset_many(dict.fromkeys(KEYS, 1))
        assert await cost(store, KEYS[380]) <= await cost(store, KEYS[10]) * 1.1
        assert await cost(store, KEYS[380], "key-") <= await cost(store, KEYS[10], "key-") * 1.1
