"""What a store is made of, as its settings say."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from .abc import BaseStoreBackend
from .backends.choice import choose, choose_worker
from .clock import Clock, SystemClock
from .core import Core
from .settings import Settings

__all__ = ["Parts"]


class Parts:
    """Have the classes of a store's backends at hand; imports them, and makes the worker-side one, which take a while.

    :param settings: the options.
    :param clock: tells when values expire; None for the system's, or the database's own.
    :param given: a backend of the user's, in the place of the one that the settings name.
    :raises ConfigurationError: a dotted path does not lead to a backend.
    """

    def __init__(self, settings: Settings, clock: Clock | None, *, given: BaseStoreBackend | None = None) -> None:
        self._settings = settings
        self._clock = clock
        self._given = given
        self._make = None if given is not None else choose(settings, clock)
        make_worker = choose_worker(settings, clock)
        # Its hooks are called in any thread, so it can as well be made in this one: clients read files as they begin.
        self._worker = None if make_worker is None else make_worker()

    def build(self) -> Core:
        """Make the backend of the rows, where it is used: it may be bound to a thread or an event loop."""
        state_store = self._settings.state_store
        options: dict[str, Any] = {
            "clock": self._clock or SystemClock(),
            "max_value_bytes": state_store.max_value_storage_bytes,
            "default_retention": _default_retention(state_store.default_retention_days),
        }
        backend = self._make() if self._make is not None else self._given
        assert backend is not None  # noqa: S101 - one of the two is there
        if self._worker is None:
            return Core(backend, **options)
        # Few programs have one: the others need not load what it takes.
        from .offload.layer import OffloadingCore

        days = self._settings.common.io.state_store_objectstorage_abandoned_days
        grace = timedelta(days=days) if days else None
        return OffloadingCore(backend, self._worker, grace=grace, **options)


def _default_retention(days: float) -> timedelta | None:
    return max(timedelta(days=days), timedelta.resolution) if days else None
