"""A triggerer whose database hangs: it stops in time, whatever it was at."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import ClassVar

import anyio
import pytest

from asyncstore import Asset, Settings, TriggererSettings, connect
from tests.postgres.databases import Databases
from tests.postgres.proxy import Proxy
from tests.postgres.store_support import migrated
from tests.triggers.support import until
from triggers import AssetWatcher, BaseEventTrigger, Triggerer, TriggerEvent

pytestmark = pytest.mark.anyio

SETTINGS = Settings(
    triggerer=TriggererSettings(lease=2.0, heartbeat_interval=0.3, drain_timeout=1.0, block_warning=0.0)
)


@pytest.fixture(scope="module")
def database_template(postgres: Databases) -> str:
    return migrated(postgres)


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
