"""Watchers that work out of the box, one package for each kind of source."""

from __future__ import annotations

from .folder import FolderTrigger
from .schedule import ScheduleTrigger
from .table import TableTrigger

__all__ = ["FolderTrigger", "ScheduleTrigger", "TableTrigger"]
