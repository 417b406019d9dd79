from __future__ import annotations

import datetime
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from asyncstore import Asset, StoreError
from triggers import AssetWatcher, BaseEventTrigger, InvalidTriggerError, TriggerEvent
from triggers.abc import arguments_of


class Plain(BaseEventTrigger):
    def __init__(self, table: str, /, *, since: Any = 0, **more: Any) -> None:
        self.table = table

    async def run(self) -> AsyncIterator[TriggerEvent]:
        yield TriggerEvent(None)


class Named(Plain):
    def __init__(self, table: str, since: Any = 0, **more: Any) -> None:
        self.table, self.since, self.more = table, since, more


@dataclass
class AsData(BaseEventTrigger):
    table: str
    since: int = 0

    async def run(self) -> AsyncIterator[TriggerEvent]:
        yield TriggerEvent(None)


def test_the_default_serialize_gives_the_arguments_by_name() -> None:
    path, arguments = Named("orders", 3, zone="eu").serialize()
    assert path == f"{__name__}.Named"
    assert arguments == {"table": "orders", "since": 3, "zone": "eu"}
    assert AsData("orders").serialize()[1] == {"table": "orders"}


def test_arguments_come_back_as_json_has_them() -> None:
    assert arguments_of(Named("t", (1, (2,)))) == {"table": "t", "since": [1, [2]]}


@pytest.mark.parametrize(
    "value", [datetime.date(2026, 1, 1), Path("x"), {1: 2}, {"a": [{2: 3}]}, float("nan"), b"x", {1, 2}, object()]
)
def test_arguments_that_are_not_json_are_named(value: Any) -> None:
    with pytest.raises(InvalidTriggerError, match=r"Named: argument 'since' is not JSON .*override serialize"):
        arguments_of(Named("t", value))


def test_arguments_that_have_no_name_ask_for_serialize() -> None:
    with pytest.raises(InvalidTriggerError, match="'table' cannot be given by keyword; override serialize"):
        Plain("orders").serialize()


def test_state_is_there_only_while_a_triggerer_runs_it() -> None:
    trigger = AsData("orders")
    with pytest.raises(StoreError, match="from the start of run"):
        _ = trigger.asset_state
    with pytest.raises(StoreError, match="from the start of run"):
        _ = trigger.asset


@pytest.mark.parametrize(("name", "error"), [("", ValueError), ("x" * 513, ValueError), (3, TypeError)])
def test_a_watcher_needs_a_name(name: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="name"):
        AssetWatcher(name, AsData("t"))


def test_a_watcher_needs_an_instance() -> None:
    with pytest.raises(TypeError, match="instance of a BaseTrigger subclass"):
        AssetWatcher("w", AsData)  # type: ignore[arg-type]


def test_two_watchers_of_an_asset_need_two_names() -> None:
    with pytest.raises(ValueError, match="two watchers of one asset are named 'w'"):
        Asset("a", watchers=[AssetWatcher("w", AsData("t")), AssetWatcher("w", AsData("u"))])
