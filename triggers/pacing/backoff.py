"""How long to wait before the next attempt."""

from __future__ import annotations

import random
from contextvars import ContextVar

__all__ = ["Backoff", "jitter_here"]

#: The chance of every `Backoff` made in this context; None for one of its own. A test sets it, to be repeatable.
jitter_here: ContextVar[random.Random | None] = ContextVar("jitter_here", default=None)


class Backoff:
    """Double the delay with every failure, up to a limit, with jitter; a healthy while begins anew.

    The jitter is "equal": between half the delay and the whole, so that watchers that failed together do not come
    back together (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).

    :param first: the first delay, in seconds.
    :param limit: the longest, in seconds.
    :param healthy_after: seconds of running after which the delay begins anew.
    :param jitter: gives a number between 0 and 1; by default `jitter_here`, or one of its own.
    """

    def __init__(self, first: float, limit: float, healthy_after: float = 0.0, *, jitter: random.Random | None = None):
        self._first = first
        self._limit = limit
        self._healthy_after = healthy_after
        self._jitter = jitter or jitter_here.get() or random.Random()  # noqa: S311 - no secret
        self._failures = 0

    def next(self, ran_for: float = 0.0) -> float:
        """Give the seconds to wait after a failure.

        :param ran_for: seconds that the failed attempt ran.
        """
        if self._healthy_after and ran_for >= self._healthy_after:
            self._failures = 0
        delay = min(self._limit, self._first * 2.0 ** min(self._failures, 60))
        self._failures += 1
        return delay * (1 + self._jitter.random()) / 2
