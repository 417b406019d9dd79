from __future__ import annotations

import asyncio
import time

import anyio
import pytest

from triggers.harness.watchdog import watch_loop

pytestmark = pytest.mark.anyio


async def test_who_blocks_the_loop_is_named_with_its_stack(caplog: pytest.LogCaptureFixture) -> None:
    async def blocks() -> None:
        time.sleep(0.5)  # noqa: ASYNC251 - the fault that is looked for

    with watch_loop(0.05):
        await asyncio.create_task(blocks(), name="the blocking one")
    (record,) = [each for each in caplog.records if each.name == "triggers"]
    assert record.getMessage().startswith("the blocking one blocks the event loop for more than 0.1 s")
    assert "time.sleep(0.5)" in record.getMessage()


async def test_a_loop_that_answers_is_not_spoken_of(caplog: pytest.LogCaptureFixture) -> None:
    with watch_loop(0.5):
        for _ in range(20):
            await anyio.sleep(0.001)
    assert [each for each in caplog.records if each.name == "triggers"] == []


async def test_many_that_are_busy_together_are_not_blamed_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    async def busy() -> None:
        time.sleep(0.005)  # noqa: ASYNC251 - the fault that is looked for

    with watch_loop(0.1):
        tasks = [asyncio.create_task(busy(), name=f"busy {number}") for number in range(100)]
        await asyncio.gather(*tasks)
    said = [each.getMessage() for each in caplog.records if each.name == "triggers"]
    assert said
    assert all("too much to do" in each for each in said)
