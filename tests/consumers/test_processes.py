"""Processes that share a consumer on SQLite, killed with SIGKILL."""

from __future__ import annotations

from pathlib import Path

import pytest

from .processes import divided, killed_at_every_await

pytestmark = [pytest.mark.anyio, pytest.mark.crash, pytest.mark.timeout(300)]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path}/state.db"


async def test_processes_divide_a_log_and_what_a_killed_one_had_comes_again(url: str) -> None:
    await divided(url)


async def test_killed_at_every_await_a_transaction_handles_each_event_once(url: str) -> None:
    assert await killed_at_every_await(url) == ([], [])


async def test_the_judgement_sees_what_two_commits_would_double(url: str) -> None:
    missed, doubled = await killed_at_every_await(url, "broken", count=2)
    assert missed == []
    assert doubled
