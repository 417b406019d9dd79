"""The metastore: the relational database behind the default backend."""

from __future__ import annotations

from .backend import MetastoreBackend

__all__ = ["MetastoreBackend"]
