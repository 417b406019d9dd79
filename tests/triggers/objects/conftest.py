from __future__ import annotations

from tests.offload.conftest import bucket, proxy, s3

__all__ = ["bucket", "proxy", "s3"]
