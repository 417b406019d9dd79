from __future__ import annotations

import pytest

from tests.triggers.harness.world import Failing, Ticking


@pytest.fixture(autouse=True)
def _forget() -> None:
    Ticking.notes.clear()
    Failing.broken = True
