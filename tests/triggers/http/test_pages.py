"""How the pages of an API follow each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from triggers.testing import VirtualEventLoop, run_watcher

from .api import Api, Asked, Reply, link_pages, running_api
from .support import told, trigger, until_told

pytestmark = pytest.mark.anyio

ITEMS = [{"id": number} for number in range(7)]


@pytest.fixture
def anyio_backend() -> Any:
    return "asyncio", {"loop_factory": VirtualEventLoop}


def by_next(asked: Asked) -> Reply:
    at = int(asked.one("at", "0"))
    more = {"@odata.nextLink": f"?at={at + 3}"} if at + 3 < len(ITEMS) else {}
    return Reply({"value": ITEMS[at : at + 3], **more})


def by_cursor(asked: Asked) -> Reply:
    at = int(asked.one("c", "0"))
    return Reply({"value": ITEMS[at : at + 3], "meta": [{"next": at + 3 if at + 3 < len(ITEMS) else None}]})


def by_page(asked: Asked) -> Reply:
    at = 3 * int(asked.one("p"))
    return Reply(ITEMS[at : at + 3]) if at < len(ITEMS) else Reply("nothing here", status=404)


def by_offset(asked: Asked) -> Reply:
    at = int(asked.one("o"))
    return Reply(ITEMS[at : at + 2])


@pytest.mark.parametrize(
    ("answer", "options", "requests"),
    [
        (link_pages(ITEMS, 3, "/items"), {}, 3),
        (by_next, {"items": "value", "next": "@odata.nextLink"}, 3),
        (by_cursor, {"items": "value", "next": "meta.0.next", "cursor": "c"}, 3),
        (by_page, {"page": "p", "first_page": 0}, 4),
        (by_offset, {"offset": "o"}, 5),
    ],
    ids=["link", "next", "cursor", "page", "offset"],
)
async def test_every_page_is_read(
    api: Api, answer: Callable[[Asked], Reply], options: dict[str, Any], requests: int
) -> None:
    api.answer = answer
    assert await told(api, "/items?limit=3&q=a%20b", **options) == ITEMS
    assert len(api.asked) == requests
    if set(options) & {"page", "offset", "cursor"}:
        assert all(asked.query["limit"] == ["3"] and asked.query["q"] == ["a b"] for asked in api.asked)


@pytest.mark.parametrize(
    ("header", "leads"),
    [
        ('</a>; rel="prev", </items?at=1>; title="a, <b>; rel=x"; rel="next last"', True),
        ("<?at=1>;rel=NEXT", True),
        ('</items?at=1>; rel="nextish"', False),
        ("nonsense; rel=next", False),
        ("", False),
    ],
)
async def test_link_headers(api: Api, header: str, leads: bool) -> None:
    api.answer = lambda asked: Reply([asked.one("at")], headers={} if asked.one("at") else {"Link": header})
    assert await told(api) == ["", "1"][: 1 + leads]


def circle(asked: Asked) -> Reply:
    return Reply([asked.one("at")], headers={"Link": "<?at=1>; rel=next"})


def growing_cursor(asked: Asked) -> Reply:
    return Reply({"i": [1], "n": asked.one("n") + "x"})


def same(asked: Asked) -> Reply:
    return Reply([1, 2])


@pytest.mark.parametrize(
    ("answer", "options", "says"),
    [
        (circle, {}, "leads to one that was read"),
        (growing_cursor, {"items": "i", "next": "n", "cursor": "n"}, "leads to one that was read"),
        (same, {"page": "p"}, "page 2 is the same as the one before it"),
        (same, {"offset": "o"}, "page 2 is the same as the one before it"),
    ],
)
async def test_pages_that_go_round_in_a_circle_are_reported_and_not_followed_for_ever(
    api: Api,
    answer: Callable[[Asked], Reply],
    options: dict[str, Any],
    says: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    api.answer = answer
    async with run_watcher(trigger(api, id="", watermark="", **options)) as watching:
        await until_told(caplog, says)
        assert "go round in a circle" in caplog.text
        assert "items/validators" not in await watching.state()


async def test_a_page_that_fails_is_asked_for_again_and_the_others_are_not(api: Api) -> None:
    pages = link_pages(ITEMS, 3, "/items")
    api.replies = [pages(Asked("/items", {}, {})), Reply(status=502), Reply(fault="refused"), Reply([1], fault="cut")]
    api.answer = pages
    assert await told(api) == ITEMS
    assert [asked.one("at") for asked in api.asked] == ["", "3", "3", "3", "3", "6"]


async def test_an_expired_cursor_begins_anew(api: Api) -> None:
    pages = link_pages(ITEMS, 3, "/items")
    api.replies = [pages(Asked("/items", {}, {})), Reply(status=410)]
    api.answer = pages
    assert await told(api) == ITEMS
    assert [asked.one("at") for asked in api.asked] == ["", "3", "", "3", "6"]


async def test_a_tag_of_one_page_says_nothing_of_the_others(api: Api) -> None:
    pages = link_pages(ITEMS, 3, "/items")

    def tagged(asked: Asked) -> Reply:
        reply = pages(asked)
        reply.headers["ETag"] = '"same"'
        return reply

    api.answer = tagged
    await told(api, runs=2)
    assert not any("if-none-match" in asked.headers for asked in api.asked)


async def test_redirects_are_followed_and_credentials_stay_with_their_origin(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASYNCSTORE_CONN_CRM", '{"token": "hunter2", "params": {"api_key": "hunter3"}}')
    with running_api() as other:
        other.answer = lambda asked: Reply(["there"])
        api.replies = [
            Reply(status=308, headers={"Location": "/moved"}),
            Reply(["here"], headers={"Link": f'<{other.url}/next>; rel="next"'}),
        ]
        assert await told(api, connection="crm", headers={"X-Tenant": "t"}) == ["here", "there"]
    for asked in api.asked:
        assert asked.headers["authorization"] == "Bearer hunter2"
        assert (asked.one("api_key"), asked.headers["x-tenant"]) == ("hunter3", "t")
    assert [asked.path for asked in api.asked] == ["/items", "/moved"]
    assert "authorization" not in other.asked[0].headers
    assert "x-tenant" not in other.asked[0].headers
    assert other.asked[0].query == {}


@pytest.mark.parametrize(("says_so", "looks"), [(True, 1), (False, 11)])
async def test_a_second_page_is_found_although_the_tag_of_the_first_stays(api: Api, says_so: bool, looks: int) -> None:
    # Servers make the tag of the body, which a full page keeps; the link to the next one is a header.
    items = [1, 2, 3]

    def answer(asked: Asked) -> Reply:
        reply = link_pages(items, 3, "/items")(asked)
        reply.headers["ETag"] = f'"{reply.body}"'
        if asked.headers.get("if-none-match") == reply.headers["ETag"]:
            return Reply(status=304, headers=reply.headers if says_so else {})
        return reply

    api.answer = answer
    async with run_watcher(trigger(api, once=False, interval=60.0)) as watching:
        await watching.wait_events(3)
        items.append(4)
        await watching.wait_events(4, timeout=60.0 * looks + 30)
    assert watching.payloads == [1, 2, 3, 4]


@pytest.mark.parametrize("once", [True, False])
async def test_an_item_that_leaves_its_page_while_they_are_read_is_told_all_the_same(api: Api, once: bool) -> None:
    # An update moves it to the end, and the first item of the second page to the first, which was read.
    shown = [{"id": number, "at": number} for number in range(1, 7)]

    def answer(asked: Asked) -> Reply:
        since, page = int(asked.one("since", "0")), int(asked.one("p"))
        found = [each for each in shown if each["at"] >= since][3 * (page - 1) : 3 * page]
        if page == 1 and len(api.asked) == 1:
            shown.append({"id": shown.pop(0)["id"], "at": 7})
        return Reply(found)

    api.answer = answer
    options: dict[str, Any] = {"id": "id", "watermark": "at", "since": "since", "changes": True, "page": "p"}
    async with run_watcher(trigger(api, once=once, interval=60.0, **options)) as watching:
        await watching.wait_events(7, timeout=600.0)
        await (watching.wait_done() if once else anyio.sleep(600.0))
        assert (await watching.state())["items/watermark"] == 7
        await watching.restart()
        shown.append({"id": 8, "at": 8})
        await watching.wait_events(8, timeout=600.0)
    assert sorted(each["at"] for each in watching.payloads) == [*range(1, 9)]
    assert len({event.id for event in watching.events}) == 8
