"""What users read and write state with, one module per kind of scope."""

from __future__ import annotations

from .asset import AssetStoreAccessor
from .assets import AssetStoreAccessors
from .task import TaskStoreAccessor

__all__ = ["AssetStoreAccessor", "AssetStoreAccessors", "TaskStoreAccessor"]
