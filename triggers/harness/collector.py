"""Sparing the garbage collector what is no garbage."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["paused"]


@contextmanager
def paused() -> Generator[None]:
    """Look for no garbage inside the block, whose every wait must have an end.

    Thousands of watchers that start are hundreds of thousands of new objects, all of them in use: to look through them
    again and again while they come takes longer than to start them. Who turned the collector off finds it off.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
