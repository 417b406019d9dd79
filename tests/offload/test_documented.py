"""The class that the documentation shows, against a real server."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

from asyncstore.testing import WorkerBackendConformance
from tests.offload.s3 import SECRET, Server

PAGE = Path(__file__).parents[2] / "docs/how-to/write-a-worker-backend.md"


class TestDocumented(WorkerBackendConformance):
    state_backend = "documented.S3StateBackend"
    place: tuple[Server, str]

    @pytest.fixture(autouse=True)
    def _place(self, s3: Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place = (s3, bucket)
        monkeypatch.setenv("S3_ENDPOINT", s3.url)
        monkeypatch.setenv("STATE_BUCKET", bucket)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        block = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
        assert block is not None
        module = types.ModuleType("documented")
        exec(compile(block[1], str(PAGE), "exec"), vars(module))
        monkeypatch.setitem(sys.modules, "documented", module)

    async def lose(self, reference: str) -> bool:
        server, bucket = self.place
        server.client.delete_object(Bucket=bucket, Key=reference)
        return True
