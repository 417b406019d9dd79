"""Everything in this process's memory: for tests and notebooks."""

from __future__ import annotations

from .backend import MemoryBackend

__all__ = ["MemoryBackend"]
