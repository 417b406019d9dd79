from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.offload.backends import emptied
from tests.offload.s3 import Proxy, Server, running_server


@pytest.fixture(autouse=True)
def _emptied() -> Generator[None]:
    with emptied():
        yield


@pytest.fixture(scope="session")
def s3() -> Generator[Server]:
    """An S3 server in a process of its own."""
    with running_server() as server:
        yield server


@pytest.fixture
def proxy(s3: Server, monkeypatch: pytest.MonkeyPatch) -> Generator[Proxy]:
    """A proxy before it; the connection `lake` goes through it."""
    proxy = Proxy(s3.port)
    monkeypatch.setenv("ASYNCSTORE_CONN_LAKE", proxy.connection())
    yield proxy
    proxy.close()


@pytest.fixture
def bucket(s3: Server) -> str:
    """A bucket of this test's own."""
    return s3.bucket()
