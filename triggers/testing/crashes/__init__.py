"""Crash injection: a watcher is killed at every `await`, and its events are counted."""

from __future__ import annotations

from .everywhere import crash_everywhere, crash_everywhere_sync
from .judging import Verdict
from .options import CrashOptions
from .points import CrashPoint, Place
from .report import CrashOutcome, CrashReport
from .story import Fault

__all__ = [
    "CrashOptions",
    "CrashOutcome",
    "CrashPoint",
    "CrashReport",
    "Fault",
    "Place",
    "Verdict",
    "crash_everywhere",
    "crash_everywhere_sync",
]
