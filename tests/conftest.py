from __future__ import annotations

import pytest

from tests.postgres.fixtures import (
    database_template,
    database_url,
    make_server,
    pgbouncer,
    pgbouncer_url,
    postgres,
    proxy,
    wire,
)

__all__ = [
    "database_template",
    "database_url",
    "make_server",
    "pgbouncer",
    "pgbouncer_url",
    "postgres",
    "proxy",
    "wire",
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
