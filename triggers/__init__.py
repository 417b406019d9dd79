"""An event runtime on top of asyncstore: watchers whose events and watermarks are one commit."""

from __future__ import annotations

from .abc import BaseEventTrigger, BaseTrigger
from .discovery import Discovered, discover, load_assets
from .errors import DiscoveryError, InvalidHandlerError, InvalidTriggerError, TriggerError
from .events import TriggerEvent
from .handlers import Handler, HandlerRunner, on_event
from .harness import Triggerer
from .sources import FolderTrigger
from .watcher import AssetWatcher

__all__ = [
    "AssetWatcher",
    "BaseEventTrigger",
    "BaseTrigger",
    "Discovered",
    "DiscoveryError",
    "FolderTrigger",
    "Handler",
    "HandlerRunner",
    "InvalidHandlerError",
    "InvalidTriggerError",
    "TriggerError",
    "TriggerEvent",
    "Triggerer",
    "discover",
    "load_assets",
    "on_event",
]
