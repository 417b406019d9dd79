"""The bucket watcher against an S3 server in a process of its own, and a proxy that fails as asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from asyncstore import Asset, ConfigurationError, Store
from tests.offload.s3 import SECRET, Proxy, Server
from tests.triggers.support import memory_store, run_to_the_end
from triggers import AssetWatcher, ObjectStoreTrigger
from triggers.pacing import Backoff
from triggers.sources import patience

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async for store in memory_store():
        yield store


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    def quick(first: float, limit: float) -> Backoff:
        return Backoff(first / 1000, limit / 1000)

    monkeypatch.setattr(patience, "Backoff", quick)


class Bucket:
    def __init__(self, s3: Server, name: str) -> None:
        self.s3, self.name = s3, name

    def put(self, *keys: str, body: str = "x") -> None:
        for key in keys:
            self.s3.client.put_object(Bucket=self.name, Key=f"in/{key}", Body=body.encode())

    def delete(self, key: str) -> None:
        self.s3.client.delete_object(Bucket=self.name, Key=f"in/{key}")

    @property
    def url(self) -> str:
        return f"s3://lake@{self.name}/in/"


@pytest.fixture
def inbox(s3: Server, bucket: str, proxy: Proxy) -> Bucket:
    return Bucket(s3, bucket)


async def paths(store: Store, inbox: Bucket, **options: Any) -> list[str]:
    given: dict[str, Any] = {"once": True, "interval": 0.001, **options}
    asset = Asset("inbox", watchers=[AssetWatcher("w", ObjectStoreTrigger(inbox.url, **given))])
    return [payload["path"] for payload in (await run_to_the_end(store, asset)).payloads]


async def test_every_version_of_an_object_gives_one_event(store: Store, inbox: Bucket) -> None:
    inbox.put("a", "b c%")
    asset = Asset("inbox", watchers=[AssetWatcher("w", ObjectStoreTrigger(inbox.url, once=True))])
    first, second = (await run_to_the_end(store, asset)).payloads
    assert (first["path"], second["path"], first["size"]) == ("a", "b c%", 1)
    assert first["uri"] == f"s3://{inbox.name}/in/a"
    assert first["etag"] == '"9dd4e461268c8034f5c8564e155c67a6"'
    assert first["last_modified"].endswith("+00:00")
    assert await paths(store, inbox) == []
    inbox.put("a", body="changed")
    inbox.put("new")
    assert await paths(store, inbox) == ["a", "new"]


async def test_a_deleted_object_is_forgotten(store: Store, inbox: Bucket) -> None:
    inbox.put("a", "b")
    await paths(store, inbox)
    inbox.delete("a")
    assert await paths(store, inbox) == []
    assert len(await store.asset_state[Asset("inbox")].akeys("objects/object/")) == 1
    inbox.put("a", body="again")
    assert await paths(store, inbox) == ["a"]


async def test_which_objects(store: Store, inbox: Bucket) -> None:
    inbox.put("a.csv", "b.txt", "sub/c.csv", "sub/d/e.csv", "sub0.csv")
    assert await paths(store, inbox, pattern="*.csv") == ["a.csv", "sub0.csv"]
    assert await paths(store, inbox, pattern="sub/*.csv", recursive=True) == ["sub/c.csv", "sub/d/e.csv"]
    assert await paths(store, inbox, new_only=True, memory="other", recursive=True) == []
    inbox.put("a.csv", body="changed")
    inbox.put("late.csv")
    assert await paths(store, inbox, memory="other", created_only=True, recursive=True) == ["late.csv"]


@pytest.mark.parametrize("new_only", [False, True])
async def test_in_order_of_names_only_the_last_one_is_kept(store: Store, inbox: Bucket, new_only: bool) -> None:
    names = ["2026-01", '2026-01"b', "2026-01#c", "2026-01/sub", "2026-02"]
    inbox.put(*names)
    options: dict[str, Any] = {"ordered": True, "recursive": True, "new_only": new_only}
    assert await paths(store, inbox, **options) == ([] if new_only else sorted(names))
    inbox.put("2025", "2026-02$", '2026-02"', "2026-03")
    assert await paths(store, inbox, **options) == ['2026-02"', "2026-02$", "2026-03"]
    assert await paths(store, inbox, **options) == []
    state = store.asset_state[Asset("inbox")]
    assert await state.akeys() == ["objects/after", *(["objects/baseline"] if new_only else [])]


async def test_a_large_prefix_is_read_page_by_page_and_folders_are_passed_over(
    store: Store, inbox: Bucket, proxy: Proxy
) -> None:
    inbox.put(*(f"a/{number:04}" for number in range(1100)), "b")
    assert await paths(store, inbox) == ["b"]
    listings = [path for method, path in proxy.requests if method == "GET"]
    assert len(listings) == 2
    assert await paths(store, inbox, recursive=True) == [f"a/{number:04}" for number in range(1100)]


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("fault", ["unavailable", "denied", "silent", "cut"])
async def test_what_fails_is_waited_out(
    store: Store, inbox: Bucket, proxy: Proxy, fault: str, ordered: bool, caplog: pytest.LogCaptureFixture
) -> None:
    inbox.put("a", "b")
    proxy.fail("GET", fault, 3)
    assert await paths(store, inbox, ordered=ordered) == ["a", "b"]
    assert caplog.text.count("could not list the objects") == 1
    assert SECRET not in caplog.text


async def test_a_bucket_that_is_not_there_is_waited_for_and_nothing_is_forgotten(
    store: Store, inbox: Bucket, s3: Server, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    inbox.put("a")
    await paths(store, inbox)
    name, inbox.name = inbox.name, f"{inbox.name}-2"
    handed = proxy.handle

    def handle(request: Any, port: int) -> None:
        if len(proxy.requests) == 5:
            s3.client.create_bucket(Bucket=inbox.name)
        handed(request, port)

    proxy.requests.clear()
    proxy.handle = handle  # type: ignore[method-assign]
    assert await paths(store, inbox) == []
    assert caplog.text.count("there is no such bucket") == 1
    inbox.name = name
    assert await paths(store, inbox) == []


@pytest.mark.parametrize(
    ("url", "options", "says"),
    [
        ("ftp://x/", {}, "'ftp' cannot be used"),
        ("s3://", {}, "names no bucket"),
        ("s3://key:hunter2@bucket/", {}, "the id of a connection"),
        ("file:///inbox", {}, "folder watcher"),
        ("s3://bucket/", {"interval": 0}, "interval"),
        ("s3://bucket/", {"memory": ""}, "memory"),
    ],
)
def test_bad_options_are_refused_at_once(url: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        ObjectStoreTrigger(url, **options)
    assert "hunter2" not in str(caught.value)
    assert "common.io" not in str(caught.value)


def test_a_missing_connection_and_a_missing_extra_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="ASYNCSTORE_CONN_NOWHERE"):
        ObjectStoreTrigger("s3://nowhere@bucket/").check()

    def nothing(name: str) -> None:
        assert name == "obstore"

    monkeypatch.setattr("triggers.sources.extras.find_spec", nothing)
    with pytest.raises(ConfigurationError, match=r"pip install 'asyncstore\[objectstore\]'"):
        ObjectStoreTrigger("s3://bucket/")
