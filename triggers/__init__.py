"""An event runtime on top of asyncstore: watchers whose events and watermarks are one commit."""

from __future__ import annotations

from .abc import BaseEventTrigger, BaseTrigger, SharedStreamProducer
from .discovery import load_assets
from .errors import DiscoveryError, InvalidTriggerError, SharedStreamError, TriggerError
from .events import TriggerEvent
from .harness import Triggerer
from .sources import FolderTrigger
from .streams.records import AdvanceItem, Verdict
from .watcher import AssetWatcher

__all__ = [
    "AdvanceItem",
    "AssetWatcher",
    "BaseEventTrigger",
    "BaseTrigger",
    "DiscoveryError",
    "FolderTrigger",
    "InvalidTriggerError",
    "SharedStreamError",
    "SharedStreamProducer",
    "TriggerError",
    "TriggerEvent",
    "Triggerer",
    "Verdict",
    "load_assets",
]
