"""The tables and the JSON of `events`, `state-store` and `db`: the keys that the page of commands names, no others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import click
import pytest

from asyncstore import Asset, TaskScope
from asyncstore.cli import main
from asyncstore.cli.showing import Shape, shape_of
from tests.cli.support import Done, call, expire, on_terminal, record
from tests.cli.test_consumers import fail_all

ORDERS = Asset("orders", uri="s3://warehouse/orders/")
OF_LOADER = ("orders", "--consumer", "loader")


def below(command: click.Command, *path: str) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from below(each, *path, name)


def shape(*path: str) -> type[Shape]:
    command: click.Command = main
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    found = shape_of(command)
    assert found is not None
    return found


def shown(done: Done, *path: str) -> list[dict[str, Any]]:
    assert done.code == 0
    found = [json.loads(line) for line in done.out.splitlines()]
    assert found
    for each in found:
        assert list(each) == [name for name, _, _ in shape(*path).describe()]
    return found


@pytest.fixture
def failed() -> None:
    asyncio.run(record(ORDERS, [{"n": 1}, "\x1b[2J", "表" * 100]))
    asyncio.run(fail_all(2))


@pytest.mark.parametrize("path", [path for path in below(main) if path], ids=" ".join)
def test_every_help_fits_80_columns(path: tuple[str, ...]) -> None:
    done = call(*path, "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"Usage: asyncstore {' '.join(path)} ")
    assert max(map(len, done.out.splitlines())) <= 80


@pytest.mark.usefixtures("failed")
def test_json_of_events() -> None:
    assert len(shown(call("events", "list", "--json"), "events", "list")) == 3
    assert len(shown(call("events", "list"), "events", "list")) == 3
    assert len(shown(call("events", "failed", *OF_LOADER, "--json"), "events", "failed")) == 2
    assert shown(call("events", "consumers", "--json"), "events", "consumers")[0]["failed"] == 2
    assert shown(call("events", "retry", *OF_LOADER, "--json"), "events", "retry") == [{"events": 2}]
    assert shown(call("events", "replay", *OF_LOADER, "--to", "1", "--json"), "events", "replay") == [{"events": 3}]
    tail = call("events", "tail", "orders", "--consumer", "b", "--limit", "2", "--json")
    assert len(shown(tail, "events", "tail")) == 2
    assert shown(call("events", "prune", "--json"), "events", "prune")[0]["deleted"] == 0
    forgotten = call("events", "forget", *OF_LOADER, "--yes", "--json")
    assert shown(forgotten, "events", "forget") == [{"consumer": "loader"}]


@pytest.mark.usefixtures("failed")
def test_tables_of_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    for args, title in (
        (("list",), ["ID", "ASSET", "WATCHER", "CREATED", "PAYLOAD"]),
        (("failed", *OF_LOADER), ["ID", "ASSET", "WATCHER", "CREATED", "PAYLOAD", "ATTEMPTS", "ERROR"]),
        (("tail", "orders", "--consumer", "b", "--limit", "3"), ["ID", "ASSET", "WATCHER", "CREATED", "PAYLOAD"]),
    ):
        done = on_terminal(monkeypatch, "events", *args)
        head, *rows = done.out.splitlines()
        assert (done.code, head.split()) == (0, title)
        assert len(rows) == (2 if args[0] == "failed" else 3)
        assert all(row.isprintable() for row in rows)
        assert max(map(len, rows)) <= 80
    head = on_terminal(monkeypatch, "events", "consumers").out.splitlines()[0]
    assert head.startswith("ASSET   CONSUMER  POSITION  BEHIND  IN HAND  WAITING  FAILED")


@pytest.mark.usefixtures("failed")
def test_what_a_consumer_leaves_behind_is_told_before_it_is_forgotten() -> None:
    done = call("events", "forget", *OF_LOADER)
    assert (done.code, done.out) == (2, "")
    assert "Forget consumer 'loader' of asset 'orders': " in done.err
    assert " in hand, 2 failed? There is no terminal" in done.err


def test_json_of_state_store() -> None:
    expire(TaskScope("etl", "run", "load"), "a", "b")
    cleanup, sweep = ("state-store", "cleanup-task-store"), ("state-store", "sweep-assets")
    (dry,) = shown(call(*cleanup, "--dry-run", "--json"), *cleanup)
    assert (dry["dry_run"], dry["deleted"], dry["objects"], dry["skipped"]) == (True, 2, 0, None)
    (done,) = shown(call(*cleanup, "--json"), *cleanup)
    assert (done["dry_run"], done["deleted"]) == (False, 2)
    assert shown(call(*sweep, "--json"), *sweep)[0]["assets"] == []


def test_json_of_db() -> None:
    missing = call("db", "check", "--json")
    assert missing.code == 1
    assert json.loads(missing.out)["revision"] is None
    (made,) = shown(call("db", "upgrade", "--json"), "db", "upgrade")
    assert made["before"] is None
    for name in ("check", "current"):
        (found,) = shown(call("db", name, "--json"), "db", name)
        assert (found["current"], found["revision"]) == (True, made["after"])
    (back,) = shown(call("db", "downgrade", "base", "--yes", "--json"), "db", "downgrade")
    assert (back["before"], back["after"]) == (made["after"], None)


def test_a_downgrade_is_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    call("db", "upgrade")
    assert call("db", "downgrade", "base").code == 2
    assert on_terminal(monkeypatch, "db", "downgrade", "base", answer="n\n").code == 1
    assert call("db", "check").code == 0
