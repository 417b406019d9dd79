"""The HTTP watcher under crashes at every await, against a server whose listing changes while nobody watches."""

from __future__ import annotations

from typing import Any

import pytest

from triggers import TriggerEvent
from triggers.sources.http.conditions import Conditions
from triggers.sources.http.memory import Shown
from triggers.sources.http.rounds import Rounds
from triggers.testing import CrashReport, Fault, crash_everywhere_sync

from .api import Api, Asked, Reply, link_pages
from .support import trigger

ITEMS = [{"id": number, "at": at} for number, at in enumerate((3, 1, 3))]
NEW = {"id": "new", "at": 3}


def crash(api: Api, size: int, *, grows: bool = True, **options: Any) -> CrashReport:
    shown: list[Any] = []

    def begin() -> None:
        shown[:] = sorted(ITEMS, key=lambda each: each["at"]) if options.get("ascending") else ITEMS

    def answer(asked: Asked) -> Reply:
        reply = link_pages(shown, size, "/items")(asked)
        tag = f'"{len(shown)}"'
        if asked.headers.get("if-none-match") == tag:
            return Reply(status=304)
        reply.headers["ETag"] = tag
        return reply

    api.answer = answer
    return crash_everywhere_sync(
        lambda: trigger(api, **options),
        source=begin,
        between=lambda: shown.append(NEW) if grows else None,
        expected=[*ITEMS, NEW] if grows else ITEMS,
        ordered=False,
        faults=[Fault.KILL],
    )


@pytest.mark.parametrize(
    ("size", "options"),
    [
        (10, {"id": "id", "changes": True}),
        (2, {"id": "id", "watermark": "at"}),
        (2, {"id": "id", "watermark": "at", "ascending": True}),
    ],
)
def test_every_item_is_told_once(api: Api, size: int, options: dict[str, Any]) -> None:
    report = crash(api, size, **options)
    report.check()
    assert len(report.points) > 20


def test_the_kit_would_see_a_tag_that_is_stored_too_early(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    read: Any = vars(Rounds)["_page"]

    async def hasty(self: Rounds, pager: Any) -> Any:
        found = await read(self, pager)
        conditions: Conditions = vars(self)["_conditions"]
        await vars(conditions)["_state"].aset_many(conditions.changed())
        return found

    monkeypatch.setattr(Rounds, "_page", hasty)
    assert crash(api, 10, id="id", grows=False).lost


def test_the_kit_would_see_an_item_that_is_told_twice(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    events = Shown.events

    async def careless(self: Shown, items: Any) -> Any:
        return [(item, TriggerEvent(event.payload)) for item, event in await events(self, items)]

    monkeypatch.setattr(Shown, "events", careless)
    assert crash(api, 10, id="id", grows=False).doubled
