"""Watching an HTTP API that answers in JSON."""

from __future__ import annotations

from .trigger import HttpTrigger

__all__ = ["HttpTrigger"]
