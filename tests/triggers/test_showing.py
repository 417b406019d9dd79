"""`asyncstore triggers ...` as rows, JSON and tables, without a process."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from asyncstore import Asset, connect
from tests.cli.support import URL, Done, call, on_terminal, record
from triggers.cli import triggers as group
from triggers.poison import Items, Poison

ORDERS = Asset("orders", uri="s3://warehouse/orders/")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    asyncio.run(prepare())


async def prepare() -> None:
    await record(ORDERS, [1, 2])
    async with connect(URL) as store:
        fleet = store.backend.fleet
        await fleet.ajoin("host:1", token="token", capacity=5, watchers=(), lease=timedelta(hours=1))


def objects(done: Done) -> list[dict[str, Any]]:
    assert (done.code, done.err) == (0, "")
    return [json.loads(line) for line in done.out.splitlines()]


def test_list(monkeypatch: pytest.MonkeyPatch) -> None:
    row = call("triggers", "list").out.rstrip("\n").split("\t")
    assert row[:5] == ["orders", "scan", "running", "-", "tests"]
    (found,) = objects(call("triggers", "list", "--json"))
    assert (found["asset"], found["state"], found["last_error"], found["lease_age"]) == (
        "orders",
        "running",
        None,
        None,
    )
    head, line = on_terminal(monkeypatch, "triggers", "list").out.splitlines()
    assert head.split() == ["ASSET", "WATCHER", "STATE", "ASKED", "OWNER", "LEASE", "EVENT", "/MIN", "RESTARTS"]
    assert len(line) <= 80
    assert call("triggers", "list", "--state", "done") == Done(0, "", "")


def test_show(monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = objects(call("triggers", "show", ORDERS.uri, "--json"))
    assert found["watcher"] == "scan"
    assert "state\trunning\n" in call("triggers", "show", "orders", "scan").out
    assert "\nstate:             running\n" in on_terminal(monkeypatch, "triggers", "show", "orders").out


def test_triggerers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert call("triggers", "triggerers").out.startswith("host:1\t0\t5\tno\t")
    (found,) = objects(call("triggers", "triggerers", "--json"))
    assert (found["owner"], found["capacity"], found["draining"]) == ("host:1", 5, False)
    head = on_terminal(monkeypatch, "triggers", "triggerers").out.splitlines()[0]
    assert head.split() == ["OWNER", "RUNNING", "CAPACITY", "DRAINING", "STARTED", "LEASE", "LEFT"]


def test_orders_tell_what_became_of_the_watcher() -> None:
    assert call("triggers", "pause", "orders").out == "watcher 'scan' of asset 'orders' is paused\n"
    assert objects(call("triggers", "restart", "orders", "--json"))[0]["state"] == "waiting"


def test_failed_and_forget(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail() -> None:
        async with connect(URL) as store:
            with pytest.raises(ZeroDivisionError):
                async with Items(store.asset_state[ORDERS], "scan", Poison()).handling("item 1"):
                    raise ZeroDivisionError("boom")

    asyncio.run(fail())
    (found,) = objects(call("triggers", "failed", "orders"))
    assert (found["watcher"], found["item"], found["attempts"], found["aside"]) == ("scan", "item 1", 1, False)
    assert found["error"].endswith("ZeroDivisionError: boom\n")
    shown = on_terminal(monkeypatch, "triggers", "failed", "orders").out.splitlines()
    assert shown[0].split() == ["WATCHER", "ITEM", "ATTEMPTS", "ASIDE", "ERROR"]
    assert "  Traceback (" in shown[1]
    assert len(shown) == 2
    refused = call("triggers", "forget", "orders", "item 1")
    assert refused.code == 2
    assert "give --yes if so" in refused.err
    assert call("triggers", "forget", "orders", "item 1", "--yes") == Done(0, "", "")
    assert call("triggers", "failed", "orders") == Done(0, "", "")


@pytest.mark.parametrize("name", [*group.commands, "watch", "triggerer"])
def test_help_fits_80_columns(name: str) -> None:
    path = ["triggers", name] if name in group.commands else [name]
    done = call(*path, "--help")
    assert (done.code, done.err) == (0, "")
    assert max(map(len, done.out.splitlines())) <= 80
