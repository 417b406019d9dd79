from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from asyncstore import Store, connect


@pytest.fixture(params=["memory", "file"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Store]:
    where = "" if request.param == "memory" else f"/{tmp_path}/state.db"
    async with connect(f"sqlite+aiosqlite://{where}") as store:
        yield store
