"""Which items of an API are events."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest

from triggers import AssetWatcher, Poison
from triggers.testing import VirtualEventLoop, memory_store, run_watcher

from .api import Api, Asked, Reply
from .support import once_more, told, trigger

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> Any:
    return "asyncio", {"loop_factory": VirtualEventLoop}


async def test_each_item_is_told_once(api: Api) -> None:
    api.answer = lambda _: Reply([{"id": 1, "v": "ä"}, "text", 3, None, {"id": 1, "v": "ä"}])
    assert await told(api, runs=2) == [{"id": 1, "v": "ä"}, "text", 3, None]


async def test_a_number_that_no_float_holds_holds_up_nothing(api: Api) -> None:
    api.answer = lambda _: Reply(b'[{"at": 1}, {"at": 1e999}, {"at": -1e999}]')
    assert [each["at"] for each in await told(api)] == [1, "1e999", "-1e999"]


async def test_half_a_surrogate_pair_holds_up_nothing(api: Api) -> None:
    api.answer = lambda _: Reply(rb'[{"a": "cut \ud83d"}, {"\uDE00": ["\ud83d\ude00", 1]}, {"a": "whole"}]')
    assert await told(api, id="") == [{"a": "cut \ufffd"}, {"\ufffd": ["\U0001f600", 1]}, {"a": "whole"}]


async def test_an_id_tells_items_apart_and_a_change_is_an_event_where_wished(api: Api) -> None:
    shown: list[Any] = [{"id": 1, "state": "open"}, {"id": 2, "state": "open"}]
    api.answer = lambda _: Reply({"data": {"items": shown}})
    for changes in (False, True):
        async with run_watcher(trigger(api, items="data.items", id="id", changes=changes)) as watching:
            await watching.wait_done()
            for state in ("closed", "open", "closed", "closed"):
                shown[1] = {"id": 2, "state": state}
                expected = [shown[1]] if changes and watching.payloads[-1] != shown[1] else []
                assert await once_more(watching) == expected
        shown[1] = {"id": 2, "state": "open"}


async def test_an_item_that_is_gone_is_forgotten_and_not_told_again(api: Api) -> None:
    shown: list[Any] = [{"id": n} for n in range(3)]
    api.answer = lambda _: Reply(shown)
    async with run_watcher(trigger(api, id="id", once=False, interval=10.0)) as watching:
        await watching.wait_events(3)
        del shown[1]
        shown.append({"id": "later"})
        await watching.wait_events(4)
        shown.append({"id": "latest"})
        await watching.wait_events(5)
        shown.append({"id": "the last"})
        await watching.wait_events(6)
        keys = [key for key in await watching.state() if key.startswith("items/item/")]
        assert len(keys) == 5
        shown.insert(1, {"id": 1})
        shown.append({"id": "end"})
        await watching.wait_events(7)
    assert [each["id"] for each in watching.payloads] == [0, 1, 2, "later", "latest", "the last", "end"]


async def test_new_only(api: Api) -> None:
    shown: list[Any] = [{"id": 1, "at": 1}, {"id": 2, "at": 2}]
    api.answer = lambda _: Reply(shown, headers={"ETag": f'"{len(shown)}"'})
    for options in ({"id": "id"}, {"id": "id", "watermark": "at"}):
        del shown[2:]
        async with run_watcher(trigger(api, new_only=True, **options)) as watching:
            await watching.wait_done()
            assert await once_more(watching) == []
            shown.append({"id": 3, "at": 2})
            assert await once_more(watching) == [{"id": 3, "at": 2}]
            assert watching.payloads == [{"id": 3, "at": 2}]


@pytest.mark.parametrize("ascending", [False, True])
async def test_a_watermark_moves_forward_and_goes_back_to_the_api(api: Api, ascending: bool) -> None:
    shown: list[Any] = [{"id": n, "at": f"2026-01-0{n}"} for n in (1, 2, 2, 3)]
    shown[2]["id"] = "2b"
    api.answer = lambda asked: Reply([each for each in shown if str(each["at"]) >= asked.one("after", "")])
    options: dict[str, Any] = {"id": "id", "watermark": "at", "since": "after", "ascending": ascending}
    async with run_watcher(trigger(api, **options)) as watching:
        await watching.wait_done()
        assert watching.payloads == shown
        shown.append({"id": "tie", "at": "2026-01-03"})
        shown.append({"id": "next", "at": "2026-01-04"})
        assert await once_more(watching) == shown[4:]
        assert await once_more(watching) == []
        assert (await watching.state())["items/watermark"] == "2026-01-04"
        assert sorted(await watching.state()) == ["items/at/00000000", "items/watermark"]
    assert [asked.one("after") for asked in api.asked] == ["", "2026-01-03", "2026-01-04"]


async def test_items_in_any_order_and_numbers_of_any_size(api: Api) -> None:
    shown: list[Any] = [{"at": n} for n in (5, 2**70, 3.5, 1)]
    api.answer = lambda _: Reply(shown)
    async with run_watcher(trigger(api, watermark="at", since="q=at>{watermark}&")) as watching:
        await watching.wait_done()
        assert watching.payloads == shown
        shown.append({"at": 4})
        assert await once_more(watching) == []
    assert api.asked[-1].one("q") == f"at>{2**70}&"


async def test_more_items_with_one_watermark_than_a_key_of_the_state_holds(api: Api) -> None:
    shown: list[Any] = [{"id": n, "at": 7} for n in range(250)]
    api.answer = lambda _: Reply(shown)
    async with run_watcher(trigger(api, watermark="at")) as watching:
        await watching.wait_done()
        assert len(watching.payloads) == 250
        shown += [{"id": n, "at": 7} for n in range(250, 260)]
        assert await once_more(watching) == shown[250:]
        commits = len(watching.recording.commits)
        assert await once_more(watching) == []
        assert len(watching.recording.commits) == commits  # nothing is asked of the store twice
        shown.append({"id": "new", "at": 8})
        assert await once_more(watching) == shown[260:]
        assert sorted(await watching.state()) == ["items/at/00000000", "items/watermark"]


async def test_a_greater_watermark_makes_an_item_new_only_where_changes_count(api: Api) -> None:
    shown: list[Any] = [{"id": 1, "at": 1}]
    api.answer = lambda _: Reply(shown)
    for changes in (False, True):
        shown[0]["at"] = 1
        async with run_watcher(trigger(api, id="id", watermark="at", changes=changes)) as watching:
            await watching.wait_done()
            shown[0] = {"id": 1, "at": 2}
            assert await once_more(watching) == ([{"id": 1, "at": 2}] if changes else [])


async def test_a_source_that_goes_back_is_reported_and_not_followed(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    shown: list[Any] = [{"at": 10}]
    api.answer = lambda _: Reply(shown)
    async with run_watcher(trigger(api, watermark="at", once=False)) as watching:
        await watching.wait_events(1)
        shown[0] = {"at": 5}
        asked = len(api.asked)
        while len(api.asked) < asked + 3:
            await watching.wait_events(1)
            await anyio.sleep(60)
        shown[0] = {"at": 11}
        await watching.wait_events(2)
        assert watching.payloads == [{"at": 10}, {"at": 11}]
    assert caplog.text.count("the source went back: its newest watermark is 5, and was 10") == 1


async def test_items_without_id_or_watermark_are_told_and_reported(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    shown: list[Any] = [{"id": 1, "at": 1}, {"at": 2}, {"id": 3}, {"id": 4, "at": "x"}]
    api.answer = lambda _: Reply(shown)
    async with run_watcher(trigger(api, id="id", watermark="at")) as watching:
        await watching.wait_done()
        assert watching.payloads == shown
        assert await once_more(watching) == []
        shown.append({"id": 5, "at": 3})
        assert await once_more(watching) == shown[4:]
        assert await once_more(watching) == []
    assert "some items have no id at 'id'" in caplog.text
    assert "some items have no watermark" in caplog.text


async def test_an_item_that_cannot_be_stored_is_set_aside(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "triggers")
    api.answer = lambda _: Reply([{"id": "bad", "v": "x" * 70_000}, {"id": "good"}])
    watcher = AssetWatcher("w", trigger(api, id="id"), poison=Poison(attempts=2))
    async with run_watcher(watcher) as watching:
        await watching.wait_done()
        assert watching.payloads == [{"id": "good"}]


async def test_conditional_requests(api: Api) -> None:
    items = [1]

    def by_tag(asked: Asked) -> Reply:
        tag = f'"{len(items)}"'
        same = asked.headers.get("if-none-match") == tag
        return Reply(status=304) if same else Reply(items, headers={"ETag": tag})

    api.answer = by_tag
    async with run_watcher(trigger(api)) as watching:
        await watching.wait_done()
        assert await once_more(watching) == []
        items.append(2)
        assert await once_more(watching) == [2]
        assert await once_more(watching) == []
    assert [asked.headers.get("if-none-match") for asked in api.asked] == [None, '"1"', '"1"', '"2"']


MODIFIED = "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
    ("date", "sent"), [("Sun, 06 Nov 1994 08:49:38 GMT", MODIFIED), (MODIFIED, None), ("soon", None), (None, None)]
)
async def test_last_modified_counts_where_nothing_can_have_changed_since(
    api: Api, date: str | None, sent: str | None
) -> None:
    api.answer = lambda _: Reply([1], headers={"Last-Modified": MODIFIED} | ({"Date": date} if date else {}))
    await told(api, runs=2)
    assert [asked.headers.get("if-modified-since") for asked in api.asked] == [None, sent]


async def test_what_is_read_in_another_way_is_asked_for_in_full(api: Api) -> None:
    api.answer = lambda asked: Reply({"a": [1], "b": [2]}, headers={"ETag": '"x"'})
    async with memory_store() as store:
        for at in ("a", "b"):
            async with run_watcher(trigger(api, items=at), store=store) as watching:
                await watching.wait_done()
                assert watching.payloads == [1 if at == "a" else 2]
    assert "if-none-match" not in api.asked[1].headers
