from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.postgres.databases import Databases
from triggers.testing import VirtualEventLoop

from .support import Database, PostgresDatabase, SqliteFile


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualEventLoop}


@pytest.fixture
def sqlite(tmp_path: Path) -> SqliteFile:
    return SqliteFile(tmp_path / "shop.db")


@pytest.fixture(scope="session")
def database_template() -> str:
    """Give databases that hold nothing: somebody else's."""
    return "template1"


@pytest.fixture
def postgresql(postgres: Databases, database_url: str) -> PostgresDatabase:
    return PostgresDatabase(postgres, database_url)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Database:
    found: Database = request.getfixturevalue(request.param)
    return found
