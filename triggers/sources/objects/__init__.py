"""Watching the objects below a prefix of a bucket."""

from __future__ import annotations

from .trigger import ObjectStoreTrigger

__all__ = ["ObjectStoreTrigger"]
