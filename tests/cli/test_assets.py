"""`asyncstore assets`: help, table, rows and JSON of each command."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from asyncstore import Asset, AssetNotFoundError, AssetScope, MetastoreBackend, connect
from asyncstore.browsing.browser import Browser
from asyncstore.cli import assets as module
from tests.cli.support import URL, Done, call, on_terminal, record

ORDERS = Asset("orders", uri="s3://warehouse/orders/", group="raw", extra={"owner": "etl"})


def objects(done: Done) -> list[dict[str, Any]]:
    assert (done.code, done.err) == (0, "")
    return [json.loads(line) for line in done.out.splitlines()]


def register(*assets: Asset) -> None:
    with connect(URL) as store:
        for asset in assets:
            store.register(asset)


def test_list_as_rows_json_and_table(monkeypatch: pytest.MonkeyPatch) -> None:
    register(ORDERS, Asset("clicks"), Asset("表 \x1b[2J"))
    rows = [line.split("\t") for line in call("assets", "list").out.splitlines()]
    assert [row[:4] for row in rows] == [
        ["clicks", "clicks", "asset", "yes"],
        ["orders", "s3://warehouse/orders/", "raw", "yes"],
        [r"表 \x1b[2J", r"表 \x1b[2J", "asset", "yes"],
    ]
    found = objects(call("assets", "list", "--json"))
    assert list(found[1]) == ["name", "uri", "group", "active", "created_at", "deactivated_at", "extra"]
    assert (found[1]["extra"], found[2]["name"]) == ({"owner": "etl"}, "表 \x1b[2J")
    assert found[0]["created_at"].endswith("Z")
    monkeypatch.setenv("NO_COLOR", "1")
    shown = on_terminal(monkeypatch, "assets", "list")
    head, first, *_ = shown.out.splitlines()
    assert head.split() == ["NAME", "URI", "GROUP", "ACTIVE", "CREATED"]
    assert first.split()[:4] == ["clicks", "clicks", "asset", "yes"]
    assert "\x1b" not in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80


def test_titles_are_bold_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    register(ORDERS)
    assert on_terminal(monkeypatch, "assets", "list").out.startswith("\x1b[1mNAME ")
    monkeypatch.setenv("TERM", "dumb")
    assert on_terminal(monkeypatch, "assets", "list").out.startswith("NAME ")
    assert on_terminal(monkeypatch, "assets", "list", "--json").out.startswith('{"name":"orders"')


def test_an_empty_list_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    assert call("assets", "list") == Done(0, "", "")
    assert call("assets", "list", "--json") == Done(0, "", "")
    assert on_terminal(monkeypatch, "assets", "list") == Done(0, "", "")


def test_the_list_is_read_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    register(*(Asset(f"a{number}") for number in range(7)))
    sizes: list[int | None] = []
    read = Browser.alist_assets

    async def spy(self: Browser, *, after: str = "", limit: int | None = None) -> Any:
        sizes.append(limit)
        return await read(self, after=after, limit=limit)

    monkeypatch.setattr(Browser, "alist_assets", spy)
    monkeypatch.setattr(module, "_PAGE", 3)
    assert len(call("assets", "list").out.splitlines()) == 7
    assert sizes == [3, 3, 3, 3]


def test_show_counts_what_hangs_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(record(ORDERS, [1, 2]))
    call("asset-store", "set", "orders", "a", "1")
    call("events", "tail", "orders", "--consumer", "c", "--limit", "1")
    (found,) = objects(call("assets", "show", ORDERS.uri, "--json"))
    assert (found["name"], found["keys"], found["events"], found["watchers"], found["consumers"]) == (
        *("orders", 1, 2, 1, 1),
    )
    assert "events\t2\n" in call("assets", "show", "orders").out
    assert "\nevents:         2\n" in on_terminal(monkeypatch, "assets", "show", "orders", columns=60).out.replace(
        "\x1b[1m", ""
    ).replace("\x1b[0m", "")


def test_register_and_what_it_refuses() -> None:
    args = ("assets", "register", "orders", "--uri", "s3://o/", "--group", "raw", "--extra", '{"a": 1}', "--json")
    (found,) = objects(call(*args))
    assert (found["uri"], found["group"], found["extra"], found["active"]) == ("s3://o/", "raw", {"a": 1}, True)
    assert objects(call("assets", "register", "orders", "--json"))[0]["uri"] == "s3://o/"
    other = call("assets", "register", "orders", "--uri", "s3://other/")
    assert (other.code, other.out) == (1, "")
    assert "is registered with the URI 's3://o/'" in other.err
    for extra in ("[1]", "{", "[" * 100_000):
        bad = call("assets", "register", "x", "--extra", extra)
        assert (bad.code, bad.out) == (2, "")
        assert "is no JSON" in bad.err
        assert len(bad.err) < 400
    assert call("assets", "register", "x" * 1501).code == 2


def test_rest_and_back_again() -> None:
    register(ORDERS)
    call("asset-store", "set", "orders", "a", "1")
    assert objects(call("assets", "deactivate", "orders", "--json"))[0]["active"] is False
    refused = call("asset-store", "get", "orders", "a")
    assert (refused.code, refused.out) == (1, "")
    assert "deactivated" in refused.err
    assert objects(call("assets", "activate", ORDERS.uri, "--json"))[0]["deactivated_at"] is None
    assert call("asset-store", "get", "orders", "a").out == "1\n"


def test_delete_asks_and_says_how_much_would_go(monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(record(ORDERS, [1, 2]))
    question = "Delete asset 'orders' with 2 events, 1 watcher?"
    refused = call("assets", "delete", "orders")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == f"error: {question} There is no terminal to ask on; give --yes if so\n"
    for answer in ("n\n", "\n", "\x04"):
        no = on_terminal(monkeypatch, "assets", "delete", "orders", answer=answer)
        assert (no.code, no.out) == (1, "")
        assert no.err == f"{question} [y/N] error: not confirmed; nothing was done\n"
    yes = on_terminal(monkeypatch, "assets", "delete", "orders", answer="y\n")
    assert (yes.code, yes.out, yes.err) == (
        *(0, "Deleted asset orders with 2 events, 1 watcher.\n", f"{question} [y/N] "),
    )
    with connect(URL) as store, pytest.raises(AssetNotFoundError):
        store.asset_state[AssetScope(name="orders")].get("a")
    register(ORDERS)
    assert objects(call("assets", "delete", "orders", "--yes", "--json")) == [{"deleted": 1}]


@pytest.mark.parametrize("command", ["show", "deactivate", "activate", "delete"])
def test_an_unknown_asset_names_what_was_probably_meant(command: str) -> None:
    register(ORDERS)
    done = call("assets", command, "ordrs", *(["--yes"] if command == "delete" else []))
    assert (done.code, done.out) == (2, "")
    assert done.err == "error: no asset is registered under the name or URI 'ordrs'. Did you mean 'orders'?\n"
    assert "Did you mean" not in call("assets", command, "zzz", *(["--yes"] if command == "delete" else [])).err


@pytest.mark.parametrize("command", ["list", "show", "register", "deactivate", "activate", "delete"])
def test_help_fits_80_columns_and_needs_no_store(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MetastoreBackend, "aopen", None)
    done = call("assets", command, "--help")
    assert done.code == 0
    assert done.out.startswith(f"Usage: asyncstore assets {command} ")
    assert max(map(len, done.out.splitlines())) <= 80
    assert "--json" in done.out
