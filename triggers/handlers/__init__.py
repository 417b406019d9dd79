"""Functions that handle the events of assets, and what runs them."""

from __future__ import annotations

from .handler import Handler, on_event
from .runner import HandlerRunner

__all__ = ["Handler", "HandlerRunner", "on_event"]
