from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from asyncstore import Store, connect


@pytest.fixture(params=["memory", "file", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("database_url"))
    return "sqlite+aiosqlite://" + ("" if request.param == "memory" else f"/{tmp_path}/state.db")


@pytest.fixture
async def store(url: str) -> AsyncGenerator[Store]:
    async with connect(url) as store:
        yield store
