"""Watchers that work out of the box, one package for each kind of source."""

from __future__ import annotations

from .folder import FolderTrigger
from .table import TableTrigger

__all__ = ["FolderTrigger", "TableTrigger"]
