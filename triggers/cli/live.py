"""Live counts on a terminal."""

from __future__ import annotations

import shutil
import time
from typing import IO

from asyncstore import Event

__all__ = ["LiveCounts"]

_INTERVAL = 0.1


class LiveCounts:
    """Show on one line how many events were committed; shows nothing where the stream is no terminal.

    :param stream: where to, usually stderr.
    :param what: what is watched.
    :param between: the events are lines on the same terminal, so the count is shown at the beginning and the end only.
    """

    def __init__(self, stream: IO[str], what: str, *, between: bool = False) -> None:
        self._stream = stream
        self._what = what
        self._shown = stream.isatty()
        self._between = between
        self._count = 0
        self._started = time.monotonic()
        self._last_shown = 0.0

    def start(self) -> None:
        """Show that nothing came yet."""
        self._show()
        if self._between:
            self._leave()

    def add(self, event: Event) -> None:
        """Count an event.

        :param event: the event.
        """
        self._count += 1
        if not self._between and time.monotonic() - self._last_shown >= _INTERVAL:
            self._show(last=str(event.payload.get("path", "")) if isinstance(event.payload, dict) else "")

    def stop(self) -> None:
        """Show the last count and leave the line."""
        self._show(f" in {time.monotonic() - self._started:.0f} s")
        self._leave()

    def _leave(self) -> None:
        if self._shown:
            self._stream.write("\n")
            self._stream.flush()

    def _show(self, end: str = "", last: str = "") -> None:
        if not self._shown:
            return
        self._last_shown = time.monotonic()
        events = "1 event" if self._count == 1 else f"{self._count:,} events"
        line = f"{events}{end}, {self._what}  {last}".encode("ascii", "replace").decode()
        width = shutil.get_terminal_size().columns - 1
        self._stream.write("\r\x1b[K" + "".join(each if each.isprintable() else "?" for each in line)[:width])
        self._stream.flush()
