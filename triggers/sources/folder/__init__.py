"""Watching a folder."""

from __future__ import annotations

from .trigger import FolderTrigger, folder_path

__all__ = ["FolderTrigger", "folder_path"]
