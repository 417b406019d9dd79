"""An API that is away, slow, malformed, or asks for patience; no secret is ever shown."""

from __future__ import annotations

import gzip
import json
import logging
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from asyncstore import ConfigurationError
from triggers import HttpTrigger
from triggers.sources.http import client, limits
from triggers.sources.http.access import open_access
from triggers.sources.http.client import followed
from triggers.testing import VirtualEventLoop, run_watcher, virtual_clock

from .api import Api, Reply
from .support import told, trigger, until_told

pytestmark = pytest.mark.anyio

GOOD = Reply([{"id": 1}])


@pytest.fixture
def anyio_backend() -> Any:
    return "asyncio", {"loop_factory": VirtualEventLoop}


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (Reply(status=500), "HTTP 500"),
        (Reply(status=401), "HTTP 401, not let in"),
        (Reply(status=404), "HTTP 404, not there"),
        (Reply(fault="refused"), "the answer broke off"),
        (Reply([1] * 1000, fault="cut"), "the answer broke off"),
        (Reply([1] * 1000, fault="cut", packed=True), "the answer broke off"),
        (Reply(fault="silent"), "nothing came for 30 s"),
        (Reply(b"<html>", headers={"Content-Type": "text/html"}), "no JSON but 'text/html'"),
        (Reply(b'[{"id": 1}'), "no JSON, or broke off"),
        (Reply(b"[NaN]"), "no JSON"),
        (Reply(b"[" * 100_000), "no JSON"),
        (Reply(b"\xff\xfe["), "no JSON"),
        (Reply({"error": "x", "code": 3}), "an object as its answer, where a list of items should be; at the top are"),
        (Reply("x"), "a text as its answer"),
        (Reply(None), "null as its answer"),
        (Reply(["x" * 300_000]), "larger than 250,000 bytes"),
        (Reply(["x" * 300_000], packed=True), "larger than 250,000 bytes"),
        (Reply(b"[]", headers={"Content-Encoding": "br"}), "encoded as 'br'"),
        (Reply(b"[]", headers={"Content-Encoding": "gzip"}), "packed, and damaged"),
        (Reply(gzip.compress(b"[1]")[:-9], headers={"Content-Encoding": "gzip"}), "the answer broke off"),
        (Reply(status=302, headers={"Location": "file:///etc/passwd"}), "a URL that cannot be read"),
        (Reply(status=302, headers={"Location": "http://[bad"}), "a URL that cannot be read"),
    ],
)
async def test_what_fails_is_told_and_waited_out(
    api: Api, reply: Reply, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "triggers")
    api.replies = [reply, reply, GOOD]
    assert await told(api, max_bytes=250_000) == [{"id": 1}]
    assert caplog.text.count(says) == 1
    assert "can be read again" in caplog.text


async def test_a_redirect_that_leads_to_itself(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    api.replies = [Reply(status=301, headers={"Location": "/items"})] * 11 + [GOOD]
    assert await told(api) == [{"id": 1}]
    assert "more than 10 redirects" in caplog.text


async def test_nobody_listens(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    api.close()
    async with run_watcher(trigger(api)) as watching:
        await until_told(caplog, "cannot be reached")
        assert watching.errors == []


async def test_an_empty_answer_is_no_items(api: Api) -> None:
    api.replies = [Reply(b"", status=204), Reply(b" ")]
    assert await told(api, runs=2) == []


def date_in(seconds: float) -> str:
    clock = virtual_clock()
    assert clock is not None
    now = datetime.fromtimestamp(clock.microseconds() / 1e6, UTC)
    return format_datetime(now + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("status", "headers", "least"),
    [
        (429, {"Retry-After": "120"}, 120),
        (503, {"Retry-After": "120"}, 120),
        (503, {"Retry-After": "@120"}, 119),
        (429, {"Retry-After": "999999999"}, 86_400),
        (429, {"RateLimit-Reset": "90"}, 90),
        (429, {"RateLimit": '"default";r=0;t=75'}, 75),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "60"}, 60),
        (429, {"Retry-After": "soon"}, 0),
        (200, {"RateLimit-Remaining": "0", "RateLimit-Reset": "40", "Link": "<?at=1>; rel=next"}, 40),
    ],
)
async def test_a_server_is_asked_again_when_it_says(
    api: Api, status: int, headers: dict[str, str], least: float
) -> None:
    clock = virtual_clock()
    assert clock is not None
    if "@" in headers.get("Retry-After", ""):
        headers = {"Retry-After": date_in(120)}
    times: list[float] = []

    def answer(_: object) -> Reply:
        times.append(clock.seconds)
        return Reply([], status=status, headers=headers) if len(times) == 1 else GOOD

    api.answer = answer
    assert await told(api) == [{"id": 1}]
    assert least <= times[1] - times[0] < least + 61


def test_what_asks_for_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    monkeypatch.setattr("time.time", lambda: now)
    for headers, seconds in (
        ({"x-ratelimit-reset": f"{now + 50:.0f}"}, 50.0),
        ({"x-ratelimit-reset": f"{now - 50:.0f}"}, 0.0),
        ({"retry-after": "Thu, 01 Jan 2026 00:00:30 GMT"}, 30.0),
        ({"retry-after": "Wed, 31 Dec 2025 00:00:30 GMT"}, 0.0),
        ({"ratelimit": '"a";r=0;t=5, "b";r=9;t=7'}, 7.0),
        ({"retry-after": "-1", "ratelimit-reset": "3"}, 0.0),
        ({}, 0.0),
    ):
        assert limits.seconds_asked(headers) == seconds
    assert limits.is_exhausted({"ratelimit": '"a";r=0;t=5'})
    assert not limits.is_exhausted({"ratelimit": '"a";r=05;t=5'})


SECRETS = ("hunter2", "hunter3", "hunter4", "hunter5", "hunter6")


async def test_no_secret_is_shown_or_stored(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.INFO, "httpcore")  # at DEBUG it writes down whatever the server says
    monkeypatch.setenv("ASYNCSTORE_CONN_CRM", '{"headers": {"X-Api-Key": "hunter4"}, "params": {"sig": "hunter5"}}')
    monkeypatch.setenv("TENANT_TOKEN", "hunter6")
    secret = f"http://joe:hunter2@127.0.0.1:{api.port}/items?access_token=hunter3&status=open"
    made = HttpTrigger(secret, connection="crm", headers={"X-Auth-Token": "${TENANT_TOKEN}"}, once=True, id="id")
    api.replies = [
        Reply(status=401, headers={"Location": "hunter3"}),
        Reply({"why": "hunter3"}),
        Reply(status=302, headers={"Location": "ftp://hunter3"}),
        Reply([{"id": 1}], headers={"Link": "<?access_token=hunter3&p=2>; rel=next", "ETag": '"x"'}),
        Reply(status=503),
        Reply([{"id": 2}], headers={"Link": "<?access_token=hunter3&p=2>; rel=next"}),
        GOOD,
    ]
    api.answer = lambda _: GOOD
    async with run_watcher(made) as watching:
        await watching.wait_done()
        shown = f"{made!r} {made.uri} {await watching.state()} {watching.recording} {caplog.text}"
        shown += repr([event.key for event in watching.events])
    first = api.asked[0]
    assert first.headers["authorization"].startswith("Basic ")
    assert (first.headers["x-api-key"], first.headers["x-auth-token"]) == ("hunter4", "hunter6")
    assert (first.one("sig"), first.one("access_token")) == ("hunter5", "hunter3")
    assert made.uri == f"http://127.0.0.1:{api.port}/items?access_token=***&status=open"
    for each in SECRETS:
        assert each not in shown
    assert "hunter" not in repr(open_access(secret, {}, "crm"))


@pytest.mark.parametrize("named", ["hunter2\n", " hunter2", "hunter2\r\n"])
async def test_a_secret_that_ends_with_a_line_break_is_sent_without_it(
    api: Api, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    monkeypatch.setenv("ASYNCSTORE_CONN_CRM", json.dumps({"token": named}))
    monkeypatch.setenv("TENANT", named)
    api.answer = lambda _: Reply([1])
    assert await told(api, connection="crm", headers={"X-Tenant": "${TENANT}"}) == [1]
    headers = api.asked[0].headers
    assert (headers["authorization"], headers["x-tenant"]) == ("Bearer hunter2", "hunter2")


@pytest.mark.parametrize("named", ["hunter2\nhunter3", "hunter2\u00e9", "hunter2\x00"])
def test_a_secret_that_cannot_be_sent_is_refused_without_showing_it(
    monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    monkeypatch.setenv("ASYNCSTORE_CONN_CRM", json.dumps({"token": named}))
    with pytest.raises(ConfigurationError, match="header 'Authorization' cannot be sent") as caught:
        HttpTrigger("https://example.org/", connection="crm").check()
    assert "hunter" not in str(caught.value)


async def test_a_secret_in_a_path_is_not_shown_where_the_api_leads_elsewhere(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOOK", "hunter2")

    def protected(url: str, link: str) -> str:
        return followed(url.replace("http:", "https:"), link)

    monkeypatch.setattr(client, "followed", protected)
    api.replies = [Reply(status=302, headers={"Location": "http://127.0.0.1/hunter2/"})]
    api.answer = lambda _: Reply([1])
    assert await told(api, "/${HOOK}/items") == [1]
    assert "leads from https to http://127.0.0.1/***/" in caplog.text
    assert "hunter" not in caplog.text


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"url": "ftp://x"}, "allowed are http:// and https://, not ftp"),
        ({"url": "http://:pass@/x"}, "no host"),
        ({"url": "http://a b"}, "no host, or holds blanks"),
        ({"url": "http://x:99999999/"}, "cannot be read"),
        ({"url": "http://${HOST}/"}, "no host"),
        ({"interval": 0}, "interval"),
        ({"timeout": float("nan")}, "timeout"),
        ({"max_bytes": 0}, "max_bytes"),
        ({"items": "a..b"}, "items is a path"),
        ({"since": "x"}, "say where in an item"),
        ({"watermark": "at", "since": "x=1"}, "since is a parameter"),
        ({"cursor": "c"}, "give next as well"),
        ({"page": "p", "offset": "o"}, "in one way"),
        ({"page": "p", "first_page": -1}, "first_page"),
        ({"headers": {"Authorization": "Bearer hunter2"}}, "holds a secret"),
        ({"headers": {"X-Api-Key": "hunter2"}}, "holds a secret"),
        ({"headers": {"Range": "x"}}, "own business"),
        ({"headers": {"X": "a\r\nb"}}, "cannot be sent"),
        ({"memory": ""}, "memory"),
    ],
)
def test_bad_options_are_refused_at_once(options: dict[str, Any], says: str) -> None:
    given: dict[str, Any] = {"url": "https://example.org/", **options}
    with pytest.raises(ValueError, match=says) as caught:
        HttpTrigger(**given)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("connection", "says"),
    [
        (None, "has no ASYNCSTORE_CONN_MY_CRM"),
        ("hunter2", "allowed is a JSON object"),
        ('{"tokn": "hunter2"}', "'tokn' is not known"),
        ('{"headers": ["hunter2"]}', "headers is a JSON object of texts"),
        ('{"token": 12345}', "token is a text"),
        ('{"verify": 1.5}', "verify is"),
    ],
)
def test_a_bad_connection_is_told_when_it_is_looked_up(
    monkeypatch: pytest.MonkeyPatch, connection: str | None, says: str
) -> None:
    if connection is not None:
        monkeypatch.setenv("ASYNCSTORE_CONN_MY_CRM", connection)
    made = HttpTrigger("https://example.org/", connection="my-crm")
    with pytest.raises(ConfigurationError, match=says) as caught:
        made.check()
    assert "hunter2" not in str(caught.value)


def test_without_the_extra_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> None:
        assert name == "httpx"

    monkeypatch.setattr("triggers.sources.extras.find_spec", nothing)
    with pytest.raises(ConfigurationError, match=r"pip install 'asyncstore\[http\]'"):
        HttpTrigger("https://example.org/")
