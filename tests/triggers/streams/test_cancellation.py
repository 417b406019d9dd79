from __future__ import annotations

import anyio
import pytest

from .broker import Broker
from .support import Driver, Messages, Numbers, Placed, World, cancelled_at, driver, expected

pytestmark = pytest.mark.anyio

NAMES = ("first", "second", "victim")


async def run_with_a_victim(drive: Driver, world: World, kind: type[Numbers], at: int) -> bool:
    """Cancel an attempt at its n-th wait, run the watcher again, and say whether the attempt came so far."""
    reached = False
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for name in NAMES:
                drive.hub.expect(name, kind(name))
            for name in ("first", "second"):
                tasks.start_soon(drive.keep, kind(name))
            reached = await cancelled_at(at, drive.attempt(kind("victim")))
            if reached:
                tasks.start_soon(drive.keep, kind("victim"))
    assert drive.committed == {name: expected(world) for name in NAMES}
    assert drive.errors == {}
    return reached


@pytest.mark.parametrize("kind", [Numbers, Placed])
@pytest.mark.parametrize("buffer", [2, 100])
async def test_cancelled_at_every_await_a_subscriber_loses_nothing_and_its_siblings_go_on(
    kind: type[Numbers], buffer: int, anyio_backend: str
) -> None:
    at, reached = 0, True
    while reached:
        at += 1
        world = Numbers.world = World()
        world.add(6)
        world.close()
        async with driver(buffer) as drive:
            reached = await run_with_a_victim(drive, world, kind, at)
        assert world.open_now == 0
    assert at > 12


async def test_cancelled_at_every_await_a_subscriber_answers_each_message_once(anyio_backend: str) -> None:
    at, reached = 0, True
    while reached:
        at += 1
        world = Numbers.world = World()
        broker = Messages.broker = Broker()
        world.items = 6
        broker.publish(*range(1, 7))
        broker.close()
        async with driver() as drive:
            reached = await run_with_a_victim(drive, world, Messages, at)
        assert broker.acknowledged == expected(world)
        assert [item.accepted for item in broker.items] == [3] * 6
        assert [item.receipt.deliveries for item in broker.items] == [1] * 6
        assert broker.open_now == 0
    assert at > 12


@pytest.mark.parametrize("kind", [Placed, Messages])
async def test_cancelled_at_any_moment_the_hub_closes_its_sources(kind: type[Numbers], anyio_backend: str) -> None:
    for rounds in range(120):
        world = Numbers.world = World()
        broker = Messages.broker = Broker()
        world.add(6)
        broker.publish(*range(1, 7))
        async with driver(2) as drive, anyio.create_task_group() as tasks:
            for name in NAMES:
                drive.hub.expect(name, kind(name))
                tasks.start_soon(drive.keep, kind(name))
            for _ in range(rounds):
                await anyio.lowlevel.checkpoint()
            drive.hub._tasks.cancel_scope.cancel()  # type: ignore[union-attr]  # pyright: ignore
            tasks.cancel_scope.cancel()
        assert (world.open_now, broker.open_now) == (0, 0)
