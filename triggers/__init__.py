"""An event runtime on top of asyncstore: watchers whose events and watermarks are one commit."""

from __future__ import annotations

from .abc import BaseEventTrigger, BaseTrigger, SharedStreamProducer
from .discovery import Discovered, discover, load_assets
from .errors import DiscoveryError, InvalidHandlerError, InvalidTriggerError, SharedStreamError, TriggerError
from .events import TriggerEvent
from .handlers import Handler, HandlerRunner, on_event
from .harness import Triggerer
from .poison import Poison, SetAside
from .sources import FolderTrigger, HttpTrigger, ObjectStoreTrigger, ScheduleTrigger, TableTrigger
from .streams.records import AdvanceItem, Verdict
from .watcher import AssetWatcher

__all__ = [
    "AdvanceItem",
    "AssetWatcher",
    "BaseEventTrigger",
    "BaseTrigger",
    "Discovered",
    "DiscoveryError",
    "FolderTrigger",
    "Handler",
    "HandlerRunner",
    "HttpTrigger",
    "InvalidHandlerError",
    "InvalidTriggerError",
    "ObjectStoreTrigger",
    "Poison",
    "ScheduleTrigger",
    "SetAside",
    "SharedStreamError",
    "SharedStreamProducer",
    "TableTrigger",
    "TriggerError",
    "TriggerEvent",
    "Triggerer",
    "Verdict",
    "discover",
    "load_assets",
    "on_event",
]
