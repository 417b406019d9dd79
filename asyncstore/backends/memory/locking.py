"""The one lock of the in-memory backend."""

from __future__ import annotations

import threading

from ...errors import StoreBusyError

__all__ = ["Lock"]


class Lock:
    """Be a lock that is waited for in bounded time: a signal handler may come while this very thread holds it."""

    def __init__(self, timeout: float) -> None:
        self._lock = threading.Lock()
        self._timeout = timeout

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=self._timeout):
            raise StoreBusyError("the in-memory store: an operation of this process holds it")

    def __exit__(self, *_: object) -> None:
        self._lock.release()
