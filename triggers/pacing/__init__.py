"""Waiting: before the next attempt, and for what is still to be finished."""

from __future__ import annotations

from .backoff import Backoff, jitter_here
from .drain import Drain

__all__ = ["Backoff", "Drain", "jitter_here"]
