"""Watchers that work out of the box, one package for each kind of source."""

from __future__ import annotations

from .folder import FolderTrigger
from .http import HttpTrigger
from .objects import ObjectStoreTrigger

__all__ = ["FolderTrigger", "HttpTrigger", "ObjectStoreTrigger"]
