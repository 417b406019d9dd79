from __future__ import annotations

from pathlib import Path

import pytest

from .support import Connections, watch_connections


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> Connections:
    return watch_connections(monkeypatch)
