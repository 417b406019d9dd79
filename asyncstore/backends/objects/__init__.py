"""Values in object storage: S3, Google Cloud Storage, Azure, a folder, or memory."""

from __future__ import annotations

from .backend import ObjectStorageBackend

__all__ = ["ObjectStorageBackend"]
