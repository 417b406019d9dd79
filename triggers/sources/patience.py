"""What a watcher does while its source is away: say so once, come back later and later, and say when it is back."""

from __future__ import annotations

import logging

import anyio

from ..pacing import Backoff

__all__ = ["Patience"]

logger = logging.getLogger("triggers")


class Patience:
    """Wait out a source that cannot be read.

    A source that is away is no fault of the watcher: nothing is restarted, nothing forgotten, and what was read so far
    stays. Each new reason is told once, as a warning.

    :param what: the source, as people know it, without any secret.
    :param first: seconds to wait after the first failure; twice as long after each further one, with jitter.
    :param limit: the longest wait, in seconds.
    """

    def __init__(self, what: str, *, first: float = 1.0, limit: float = 60.0) -> None:
        self._what = what
        self._first = first
        self._limit = limit
        self._backoff = Backoff(first, limit)
        self._told = ""

    async def wait(self, reason: str, *, at_least: float = 0.0) -> None:
        """Tell why the source cannot be read, and wait before the next look.

        :param reason: what went wrong, without any secret.
        :param at_least: seconds that the source itself asks for, as with `Retry-After`.
        """
        delay = max(at_least, self._backoff.next())
        if reason != self._told:
            self._told = reason
            logger.warning("%s: %s; looking again in %.3g s", self._what, reason, delay)
        await anyio.sleep(delay)

    def arrived(self) -> None:
        """Take note that the source was read."""
        if self._told:
            self._told = ""
            self._backoff = Backoff(self._first, self._limit)
            logger.info("%s can be read again", self._what)
