from __future__ import annotations

from typing import Any

import anyio
import pytest

from triggers import HttpTrigger
from triggers.testing import Watching, run_watcher

from .api import Api

#: Modules that read the time beside the trigger's own.
FOLLOWED = ("triggers.sources.http.limits",)


def trigger(api: Api, path: str = "/items", **options: Any) -> HttpTrigger:
    given: dict[str, Any] = {"once": True, **options}
    return HttpTrigger(api.url + path, **given)


async def told(api: Api, path: str = "/items", *, runs: int = 1, **options: Any) -> list[Any]:
    """Give the payloads of a watcher that is run to its end, and started again."""
    async with run_watcher(trigger(api, path, **options), follow=FOLLOWED) as watching:
        for _ in range(runs - 1):
            await watching.wait_done()
            await watching.restart()
        await watching.wait_done()
        assert watching.errors == []
        return watching.payloads


async def once_more(watching: Watching) -> list[Any]:
    """Run it to its end once more, and give what that told."""
    before = len(watching.payloads)
    await watching.restart()
    await watching.wait_done()
    assert watching.errors == []
    return watching.payloads[before:]


async def until_told(caplog: pytest.LogCaptureFixture, text: str) -> None:
    """Let virtual time pass until the log says something."""
    for _ in range(1000):
        if text in caplog.text:
            return
        await anyio.sleep(1.0)
    raise AssertionError(caplog.text)
