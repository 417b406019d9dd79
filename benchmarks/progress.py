"""Progress on stderr: one line that is overwritten on a terminal, and few lines elsewhere."""

from __future__ import annotations

import sys
import time

__all__ = ["Progress"]

#: Seconds between two lines where the output is no terminal.
_PAUSE = 5.0


class Progress:
    """Tell what is being done, and how long the rest of it takes.

    :param title: stands before every line.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._left = 0
        self._seconds = 0.0
        self._terminal = sys.stderr.isatty()
        self._last = 0.0
        self._open_line = False

    def say(self, what: str) -> None:
        """Tell something on a line of its own."""
        self._clear()
        print(f"[{self._title}] {what}", file=sys.stderr, flush=True)

    def expect(self, steps: int, seconds: float) -> None:
        """Announce that many steps, and the seconds that each takes."""
        self._left, self._seconds = steps, seconds

    def step(self, what: str) -> None:
        """Begin a step."""
        line = f"[{self._title}] {what} (about {max(self._left, 0) * self._seconds:.0f} s left)"
        self._left -= 1
        if self._terminal:
            print(f"\r\x1b[2K{line}", end="", file=sys.stderr, flush=True)
            self._open_line = True
        elif time.monotonic() - self._last >= _PAUSE:
            self._last = time.monotonic()
            print(line, file=sys.stderr, flush=True)

    def done(self) -> None:
        """End the steps."""
        self._left = 0
        self._clear()

    def _clear(self) -> None:
        if self._open_line:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)
            self._open_line = False
