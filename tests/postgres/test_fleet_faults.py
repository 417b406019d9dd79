"""A triggerer whose database hangs: it stops in time, whatever it was at."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial
from typing import Any, ClassVar, cast

import anyio
import pytest

from asyncstore import Asset, Settings, Store, TriggererSettings, connect
from tests.postgres.client import Connection
from tests.postgres.proxy import Proxy
from tests.postgres.support import connected
from tests.triggers.support import until
from triggers import AssetWatcher, BaseEventTrigger, Triggerer, TriggerEvent

pytestmark = pytest.mark.anyio

SETTINGS = Settings(
    triggerer=TriggererSettings(lease=2.0, heartbeat_interval=0.3, drain_timeout=1.0, block_warning=0.0)
)

_BEATING = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND state = 'idle' AND query LIKE 'UPDATE asyncstore_triggerer SET heartbeat_at%'
"""
_BEATEN = "SELECT max(heartbeat_at) FROM asyncstore_triggerer"


class Ticking(BaseEventTrigger):
    running: ClassVar[set[str]] = set()

    async def run(self) -> AsyncIterator[TriggerEvent]:
        self.running.add(self.asset.name)
        try:
            number = await self.asset_state.aget("at", 0)
            while True:
                number += 1
                yield TriggerEvent(number, checkpoint={"at": number})
                await anyio.sleep(0.02)
        finally:
            self.running.discard(self.asset.name)


@pytest.fixture
async def proxy(database_url: str) -> AsyncGenerator[Proxy]:
    async with Proxy.to(database_url) as proxy:
        yield proxy


def watched(count: int) -> list[Asset]:
    return [Asset(f"asset {number}", watchers=[AssetWatcher("w", Ticking())]) for number in range(count)]


async def test_a_stop_while_the_database_hangs_ends_in_time(database_url: str, proxy: Proxy) -> None:
    async with connect(proxy.through(database_url), settings=SETTINGS) as store:
        triggerer = Triggerer(store, watched(5))
        began = 0.0
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(triggerer.run)
            await until(lambda: len(Ticking.running) == 5)
            proxy.stall()
            await anyio.sleep(0.1)
            began = anyio.current_time()
            triggerer.stop()
        assert anyio.current_time() - began < 8
        assert Ticking.running == set()
        proxy.resume()


async def test_a_lease_that_is_lost_while_the_database_hangs_stops_the_watchers(
    database_url: str, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    async with connect(proxy.through(database_url), settings=SETTINGS) as store:
        triggerer = Triggerer(store, watched(5))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(triggerer.run)
            await until(lambda: len(Ticking.running) == 5)
            proxy.stall()
            began = anyio.current_time()
            await until(lambda: not Ticking.running)
            assert anyio.current_time() - began < 2.0 + 1.0 + 3
            proxy.resume()
            await until(lambda: len(Ticking.running) == 5)
            triggerer.stop()
    assert "lease was not renewed in time" in caplog.text


async def test_a_connection_that_falls_silent_does_not_cost_the_lease(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    given = SETTINGS.triggerer.model_copy(update={"lease": 6.0})
    async with (
        connected(database_url) as bare,
        connect(database_url, settings=SETTINGS.model_copy(update={"triggerer": given})) as store,
    ):
        triggerer = Triggerer(store, watched(2))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(triggerer.run)
            beating: list[int] = []

            async def beats() -> bool:
                beating[:] = [row["pid"] for row in await bare.fetch(_BEATING)]
                return bool(beating)

            await until(beats)
            os.kill(beating[0], signal.SIGSTOP)  # the server's side of that connection
            try:
                beaten = await bare.fetchval(_BEATEN)
                await until(partial(_has_beaten_since, bare, beaten + 500_000))
            finally:
                os.kill(beating[0], signal.SIGCONT)
            assert len(Ticking.running) == 2
            triggerer.stop()
    assert "was not renewed in time" not in caplog.text


async def _has_beaten_since(bare: Connection, moment: int) -> bool:
    return bool(await bare.fetchval(_BEATEN) > moment)


async def test_a_triggerer_alone_makes_no_commit_tell_anybody(database_url: str) -> None:
    told: list[str] = []

    def hear(_: object, process: int, channel: str, payload: str) -> None:
        told.append(payload)

    async with connected(database_url) as bare, connect(database_url, settings=SETTINGS) as store:
        await cast("Any", bare).add_listener("asyncstore", hear)
        triggerer = Triggerer(store, watched(1))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(triggerer.run)
            await until(lambda: Ticking.running == {"asset 0"})
            for number in range(30):
                await store.asset_state[Asset("other")].aset("key", number)
            assert await store.events(Asset("asset 0")).alist()
            assert set(told) == {"fleet"}
            # Somebody watches: now they do.
            await until(partial(_commits_tell, store, told))
            triggerer.stop()


async def _commits_tell(store: Store, told: list[str]) -> bool:
    watching = cast("AsyncGenerator[Any]", store.asset_state[Asset("other")].awatch("key"))
    await anext(watching)
    await store.asset_state[Asset("other")].aset("key", 31)
    await anyio.sleep(0.05)
    await watching.aclose()
    return any(each != "fleet" for each in told)
