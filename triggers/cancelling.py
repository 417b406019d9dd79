"""Telling a cancellation from a `CancelledError` that code raised by itself."""

from __future__ import annotations

import asyncio

__all__ = ["nobody_cancels"]


def nobody_cancels() -> bool:
    """Tell whether a `CancelledError` in the current task is nobody's wish: a lost future raised it, say."""
    task = asyncio.current_task()
    return task is not None and not task.cancelling()
