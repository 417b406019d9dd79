"""PostgreSQL against a dict."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test  # pyright: ignore[reportUnknownVariableType]

from asyncstore import BaseStoreBackend, ManualClock, MetastoreBackend
from tests.postgres.client import LoopThread, connect
from tests.test_model import Model


@pytest.fixture
def admin() -> Generator[LoopThread]:
    with LoopThread("emptying") as thread:
        yield thread


def test_against_a_dict(database_url: str, admin: LoopThread) -> None:
    connection = admin.run(connect(database_url))

    def make(clock: ManualClock, exits: ExitStack) -> BaseStoreBackend:
        admin.run(connection.execute("DELETE FROM asyncstore_asset; DELETE FROM asyncstore_task_instance"))
        return MetastoreBackend(database_url, clock=clock)

    machine = type("Machine", (Model,), {"make": staticmethod(make)})
    checks = settings(max_examples=15, stateful_step_count=40, deadline=None, derandomize=True, database=None)
    run_state_machine_as_test(machine, settings=checks)
    admin.run(connection.close())
