from __future__ import annotations

from collections.abc import Generator

import pytest

from .api import Api, running_api


@pytest.fixture
def api() -> Generator[Api]:
    with running_api() as api:
        yield api
