from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from asyncstore import Asset, AssetNotFoundError, AssetScope, MetastoreBackend, connect
from asyncstore.cli import events as module
from asyncstore.cli.output import event_line
from tests.cli.support import URL, call, record, spawn, start

ORDERS = Asset("orders", uri="s3://warehouse/orders/")
CLICKS = Asset("clicks")


def payloads(out: str) -> list[Any]:
    return [json.loads(line)["payload"] for line in out.splitlines()]


def test_events_are_printed_as_json_in_the_order_of_their_commits() -> None:
    recorded = asyncio.run(record(ORDERS, [{"n": 1}, "zwei ✓"]))
    recorded += asyncio.run(record(CLICKS, [None], key="k"))
    done = spawn("events", "list")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [event_line(event) for event in recorded]
    assert [json.loads(line) for line in done.out.splitlines()] == [
        {
            "id": event.id,
            "asset": event.asset,
            "watcher": "scan",
            "key": event.key,
            "created_at": event.created_at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "payload": event.payload,
        }
        for event in recorded
    ]


@pytest.mark.parametrize("asset", ["orders", "s3://warehouse/orders/"])
def test_an_asset_is_found_by_name_or_uri(asset: str) -> None:
    asyncio.run(record(ORDERS, [1]))
    asyncio.run(record(CLICKS, [2]))
    asyncio.run(record(ORDERS, [3]))
    assert payloads(call("events", "list", asset).out) == [1, 3]


def test_a_name_comes_before_a_uri() -> None:
    asyncio.run(record(Asset("first", uri="second"), ["by uri"]))
    asyncio.run(record(Asset("second", uri="third"), ["by name"]))
    assert payloads(call("events", "list", "second").out) == ["by name"]


def test_an_unknown_asset_is_an_error_and_is_not_registered() -> None:
    call("db", "upgrade")
    done = call("events", "list", "oders")
    assert (done.code, done.out) == (2, "")
    assert done.err == "error: no asset is registered under the name or URI 'oders'\n"
    with connect(URL) as store, pytest.raises(AssetNotFoundError):
        store.events(AssetScope(name="oders")).list()


@pytest.mark.parametrize("asset", ["", "x" * 1501])
def test_what_cannot_be_an_asset_is_wrong_usage(asset: str) -> None:
    done = call("events", "list", asset)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: asset name must be 1 to 1500 bytes of UTF-8")


def test_bytes_that_are_no_text_are_wrong_usage() -> None:
    done = spawn("events", "list", os.fsdecode(b"\xff"))
    assert (done.code, done.out) == (2, "")
    assert "holds a lone surrogate" in done.err
    assert "Traceback" not in done.err


def test_an_empty_log_prints_nothing() -> None:
    done = call("events", "list")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_after_and_limit_cut_out_a_part() -> None:
    recorded = asyncio.run(record(ORDERS, list(range(5))))
    after = str(recorded[1].id)
    assert payloads(call("events", "list", "--after", after).out) == [2, 3, 4]
    assert payloads(call("events", "list", "orders", "--after", after, "--limit", "2").out) == [2, 3]
    assert payloads(call("events", "list", "--limit", "0").out) == []
    assert payloads(call("events", "list", "--limit", "9").out) == [0, 1, 2, 3, 4]
    assert payloads(call("events", "list", "--after", str(2**63 - 1)).out) == []


@pytest.mark.parametrize("limit", [None, 1, 3, 4, 6, 7, 9])
def test_the_log_is_read_in_pages(limit: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(record(ORDERS, list(range(7))))
    sizes: list[int | None] = []
    read = MetastoreBackend.alist_events

    async def spy(self: MetastoreBackend, asset: Any = None, *, after: int = 0, limit: int | None = None) -> Any:
        sizes.append(limit)
        return await read(self, asset, after=after, limit=limit)

    monkeypatch.setattr(MetastoreBackend, "alist_events", spy)
    monkeypatch.setattr(module, "_PAGE", 3)
    done = call("events", "list", *([] if limit is None else ["--limit", str(limit)]))
    assert payloads(done.out) == list(range(7))[:limit]
    assert all(size is not None and size <= 3 for size in sizes)
    assert len(sizes) <= 3


def test_stdout_that_is_not_utf8_gets_escaped_json() -> None:
    asyncio.run(record(Asset("заказы"), ["naïve \U0001f600"]))
    done = spawn("events", "list", "заказы", env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"})
    assert (done.code, done.err) == (0, "")
    assert done.out.isascii()
    assert payloads(done.out) == ["naïve \U0001f600"]
    assert "заказы" in spawn("events", "list", env={"PYTHONIOENCODING": "utf-8"}).out


def test_a_reader_that_leaves_ends_it_without_a_word() -> None:
    asyncio.run(record(ORDERS, ["x" * 60_000] * 20))  # far more than a pipe holds
    with start("events", "list") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b'{"id":')
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_reader_that_was_never_there_ends_it_without_a_word() -> None:
    asyncio.run(record(ORDERS, [1]))  # stays in the buffer until the end
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = spawn("events", "list", stdout=writer)
    finally:
        os.close(writer)
    assert (done.code, done.err) == (141, "")


def test_a_backend_without_events_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "from asyncstore import BaseStoreBackend\nclass Plain(BaseStoreBackend):\n"
    source += "".join(f"    async def {name}(self, *a, **k): ...\n" for name in ("aget", "aset", "adelete", "aclear"))
    (folder / "plain_backend.py").write_text(source)
    monkeypatch.setenv("ASYNCSTORE__STATE_STORE__BACKEND", "plain_backend.Plain")
    done = spawn("events", "list")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: Plain cannot record events")
