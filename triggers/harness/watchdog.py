"""Saying who keeps the event loop from everybody else."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["watch_loop"]

logger = logging.getLogger("triggers")


class _Watchdog(threading.Thread):
    def __init__(self, patience: float) -> None:
        super().__init__(name="triggerer: watchdog", daemon=True)
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._watched = threading.get_ident()
        self._answered = threading.Event()
        self._ended = threading.Event()

    def run(self) -> None:
        """Ask the loop again and again whether it runs."""
        while not self._ended.wait(self._patience / 2):
            self._answered.clear()
            try:
                self._loop.call_soon_threadsafe(self._answered.set)
            except RuntimeError:  # closed
                return
            if self._answered.wait(self._patience / 2) or self._ended.is_set():
                continue
            blamed = asyncio.current_task(self._loop)
            if not self._answered.wait(self._patience / 2) and not self._ended.is_set():
                self._tell(blamed)
                while not self._answered.wait(self._patience) and not self._ended.is_set():
                    pass  # told once for each time

    def _tell(self, blamed: asyncio.Task[object] | None) -> None:
        task = asyncio.current_task(self._loop)
        frame = sys._current_frames().get(self._watched)  # pyright: ignore[reportPrivateUsage]  # documented
        stack = "" if frame is None else "".join(traceback.format_stack(frame))
        if self._answered.is_set():
            return  # just now; the stack would be somebody else's
        if task is not blamed:
            logger.warning("the event loop is late by more than %.1f s: it has too much to do", self._patience)
            return
        logger.warning(
            "%s blocks the event loop for more than %.1f s, and with it every other watcher of this process; await "
            "what it waits for, or do it in a thread. It is here:\n%s",
            "what is no task" if task is None else task.get_name(),
            self._patience,
            stack,
        )

    def end(self) -> None:
        """Stop."""
        self._ended.set()
        self._answered.set()
        self.join()


@contextmanager
def watch_loop(patience: float) -> Generator[None]:
    """Name in the log whoever keeps the running event loop for longer than it should.

    :param patience: seconds; 0 for any.
    """
    if not patience:
        yield
        return
    watchdog = _Watchdog(patience)
    watchdog.start()
    try:
        yield
    finally:
        watchdog.end()
