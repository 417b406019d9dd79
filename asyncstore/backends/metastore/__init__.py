"""The metastore: the relational database behind the default backend."""

from __future__ import annotations

from .backend import DEFAULT_URL, MetastoreBackend

__all__ = ["DEFAULT_URL", "MetastoreBackend"]
