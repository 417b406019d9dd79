"""What keeps watchers alive: the triggerer, and a supervisor for each watcher."""

from __future__ import annotations

from .triggerer import Triggerer

__all__ = ["Triggerer"]
