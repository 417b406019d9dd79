"""An event runtime on top of asyncstore: watchers whose events and watermarks are one commit."""

from __future__ import annotations

from .abc import BaseEventTrigger, BaseTrigger
from .discovery import load_assets
from .errors import DiscoveryError, InvalidTriggerError, TriggerError
from .events import TriggerEvent
from .harness import Triggerer
from .sources import FolderTrigger
from .watcher import AssetWatcher

__all__ = [
    "AssetWatcher",
    "BaseEventTrigger",
    "BaseTrigger",
    "DiscoveryError",
    "FolderTrigger",
    "InvalidTriggerError",
    "TriggerError",
    "TriggerEvent",
    "Triggerer",
    "load_assets",
]
