"""Pruning on PostgreSQL, where others record and read between its statements."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from asyncstore import AssetScope, ManualClock, MetastoreBackend, Taking, connect
from asyncstore.backends.metastore import statements
from asyncstore.backends.metastore.procedures import pruning
from tests.consumers.support import ORDERS, SETTINGS, record
from tests.postgres.store_support import eventually
from tests.postgres.support import connected

pytestmark = pytest.mark.anyio

_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
_LEASE = timedelta(minutes=1)


def elsewhere(work: Callable[[], Coroutine[Any, Any, None]]) -> threading.Thread:
    """Run a coroutine in a thread of its own."""
    thread = threading.Thread(target=lambda: asyncio.run(work()))
    thread.start()
    return thread


def before(monkeypatch: pytest.MonkeyPatch, build: Callable[..., object], work: Callable[[], None]) -> None:
    """Have a pruning do something before one of its statements, inside its transaction."""
    prune = pruning.prune

    def stepping(*given: Any) -> Any:
        steps: Any = prune(*given)
        try:
            step = next(steps)
            while True:
                if step.build is build:
                    work()
                step = steps.send((yield step))
        except StopIteration as stop:
            return stop.value

    monkeypatch.setattr(pruning, "prune", stepping)


async def test_what_is_recorded_while_it_looks_for_old_events_stays(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    async with (
        MetastoreBackend(database_url, clock=clock) as backend,
        connect(backend=backend, settings=SETTINGS) as store,
    ):
        await record(store, 2)
        clock.advance(timedelta(days=2))

        async def another() -> None:
            async with (
                MetastoreBackend(database_url, clock=clock) as backend,
                connect(backend=backend, settings=SETTINGS) as store,
            ):
                await record(store, 1)

        before(monkeypatch, statements.pruning.drop_old, lambda: elsewhere(another).join())
        options: Any = {"keep": None, "unfinished": False, "dry_run": False, "batch_size": 0}
        assert await backend.deliveries.aprune(older_than=timedelta(days=1), **options) == 2
        assert len(await store.events(ORDERS).alist()) == 1


async def test_nobody_takes_an_event_while_it_goes_unfinished(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connect(database_url, settings=SETTINGS) as store:
        await record(store, 3)
        deliveries, scope = store.backend.deliveries, AssetScope(name="orders")
        member = await deliveries.ajoin(scope, "loader", start="beginning", owner="tests", lease=_LEASE)
        taken: list[Any] = []
        threads: list[threading.Thread] = []

        async def take() -> None:
            async with connect(database_url, settings=SETTINGS) as other:
                taken.extend(await other.backend.deliveries.atake(member, Taking(_LEASE, 10)))

        async def waits() -> None:
            async with connected(database_url) as bare:

                async def held_up() -> bool:
                    return not threads[0].is_alive() or bool(await bare.fetchval(_WAITING))

                await eventually(held_up, "the taking to wait for the pruning")

        def between() -> None:
            threads.append(elsewhere(take))
            elsewhere(waits).join()
            assert taken == []

        before(monkeypatch, statements.pruning.drop_lost_deliveries, between)
        options: Any = {"older_than": None, "dry_run": False, "batch_size": 0}
        assert await deliveries.aprune(keep=1, unfinished=True, **options) == 2
        await asyncio.to_thread(threads[0].join)
        assert [delivery.event.payload for delivery in taken] == [2]
        await deliveries.adone(taken[0])
        assert not await deliveries.ahas_work(member)
