"""How a triggerer leaves: slowly, and without others running what it still cleans up."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

import anyio

from tests.triggers.harness.world import BEAT, LEASE, NAMES, Ticking, World, virtual, watched


class Slow(Ticking):
    cleaning: ClassVar[Counter[str]] = Counter()

    async def cleanup(self) -> None:
        self.cleaning[self.asset.name] += 1
        await anyio.sleep(2 * LEASE)
        self.cleaning[self.asset.name] -= 1


@virtual
async def test_a_cleanup_that_outlasts_the_lease_keeps_its_watcher(world: World) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: world.run("a", watched(*NAMES, kind=Slow), drain_timeout=3 * LEASE))
        await anyio.sleep(1)
        tasks.start_soon(lambda: world.run("b", watched(*NAMES), drain_timeout=3 * LEASE))
        await anyio.sleep(1)
        world.running["a"].stop()
        await anyio.sleep(LEASE + BEAT)
        assert sum(Slow.cleaning.values()) == 12
        assert await world.holders() == Counter(a=12)
        await anyio.sleep(LEASE)
        assert await world.holders() == Counter(b=12)
        assert not +Slow.cleaning
        world.running["b"].stop()
    await world.judge(*NAMES)
