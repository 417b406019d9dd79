"""A store on either database, and triggerers in processes that watch the assets in a module's fixture `names`."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from asyncstore import Store, connect

from .support import Fleet


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/store.db"
    url: str = request.getfixturevalue("database_url")
    return url


@pytest.fixture
def store(url: str) -> Generator[Store]:
    with connect(url) as store:
        yield store


@pytest.fixture
def fleet(url: str, tmp_path: Path, store: Store, names: list[str]) -> Generator[Fleet]:
    with Fleet.open(url, tmp_path, names) as fleet:
        yield fleet
