"""Consumers in processes of their own, killed and judged; the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from asyncstore import AssetScope, connect

from .support import ORDERS, SETTINGS, record

ROOT = Path(__file__).parents[2]
Prepare = Callable[[], Awaitable[None]]


def start(url: str, how: str, *, at: int = 0, count: int = 1_000_000) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-m", "tests.consumers.child", url, how, str(at), str(count)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(child: subprocess.Popen[str]) -> list[int]:
    """Wait for the end of a child that is not killed; gives the payloads that it told."""
    out, err = child.communicate(timeout=30)
    assert (child.returncode, err) == (0, "")
    return [int(line) for line in out.splitlines()]


async def prepare(url: str, count: int) -> list[int]:
    """Record events, and make the table of what was handled; gives the ids."""
    async with connect(url, settings=SETTINGS) as store:
        events = await record(store, count)
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE handled (event_id BIGINT NOT NULL, pid BIGINT NOT NULL)"))
    await engine.dispose()
    return [event.id for event in events]


async def judge(url: str, ids: list[int]) -> tuple[list[int], list[int]]:
    """Give the events that were never handled, and those that were more than once."""
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        rows = (await connection.execute(text("SELECT event_id, pid FROM handled"))).all()
    await engine.dispose()
    counts = Counter(event_id for event_id, _ in rows)
    assert set(counts) <= set(ids)
    async with connect(url, settings=SETTINGS) as store:
        kept = store.asset_state[AssetScope(name=ORDERS.name)]
        for event_id, pid in rows:  # the state is of the same commit
            assert await kept.aget(f"event {event_id}", pid) == pid
        assert {f"event {event_id}" for event_id in counts} >= set(await kept.akeys())
    return [each for each in ids if not counts[each]], [each for each in ids if counts[each] > 1]


async def divided(url: str) -> None:
    """Have three processes divide a log, one of them killed again and again; hold that none is missed."""
    ids = await prepare(url, 1000)
    chance = random.Random(20261121)
    told: list[list[int]] = []
    others = [start(url, "plain") for _ in range(2)]
    killed: list[int] = []
    for _ in range(3):
        with start(url, "plain") as victim:
            assert victim.stdout is not None
            try:
                lines = [victim.stdout.readline() for _ in range(chance.randrange(2, 12))]
            finally:
                victim.kill()
            killed += [int(line) for line in lines]
    told = [finish(child) for child in others]
    assert all(len(each) > 20 for each in told)
    counts = Counter(number for each in (*told, killed) for number in each)
    assert sorted(counts) == list(range(len(ids)))
    # Doubled is at most what a killed one was at, or had told of and not yet settled.
    assert sum(counts.values()) - len(counts) <= 3
    for each in told:
        assert len(set(each)) == len(each)


async def killed_at_every_await(url: str, how: str = "exactly", *, count: int = 1) -> tuple[list[int], list[int]]:
    """Kill a handler before each of its awaits; gives the events that were missed, and those that were doubled."""
    ids = await prepare(url, 100)
    kills = 0
    for at in range(1, 100):
        child = start(url, how, at=at, count=count)
        _, err = child.communicate(timeout=30)
        if child.returncode == 0:
            break
        assert child.returncode == -signal.SIGKILL, err
        kills += 1
    assert 8 < kills < 90
    finish(start(url, how))
    return await judge(url, ids)
