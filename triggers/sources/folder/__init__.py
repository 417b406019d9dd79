"""Watching a folder."""

from __future__ import annotations

from .trigger import FolderTrigger

__all__ = ["FolderTrigger"]
