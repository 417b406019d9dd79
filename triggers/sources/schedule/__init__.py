"""Watching the clock."""

from __future__ import annotations

from .times import Schedule, parse_schedule
from .trigger import ScheduleTrigger

__all__ = ["Schedule", "ScheduleTrigger", "parse_schedule"]
