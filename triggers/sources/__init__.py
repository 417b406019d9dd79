"""Watchers that work out of the box, one package for each kind of source."""

from __future__ import annotations

from .folder import FolderTrigger
from .http import HttpTrigger
from .objects import ObjectStoreTrigger
from .schedule import ScheduleTrigger
from .table import TableTrigger

__all__ = ["FolderTrigger", "HttpTrigger", "ObjectStoreTrigger", "ScheduleTrigger", "TableTrigger"]
