"""What the supervisors of a triggerer share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from asyncstore import Event, Lease, Store, TriggererSettings

from ..pacing import Drain
from ..streams.hub import StreamHub
from .reports import Reports

if TYPE_CHECKING:
    from .supervisor import Supervisor

__all__ = ["Surroundings"]


class Surroundings:
    """Hold what the supervisors of a triggerer share.

    :param store: the store.
    :param settings: delays and deadlines.
    :param drain: what shields a commit, and for how long.
    :param streams: where watchers share their sources.
    :param on_event: awaited after each commit of a new event.
    """

    def __init__(
        self,
        store: Store,
        settings: TriggererSettings,
        drain: Drain,
        streams: StreamHub,
        on_event: Callable[[Event], Awaitable[None]] | None,
    ) -> None:
        self.store = store
        self.settings = settings
        self.drain = drain
        self.reports = Reports()
        self.streams = streams
        self.on_event = on_event
        #: Called by a supervisor that found its claim lost.
        self.suspect: Callable[[], None] = lambda: None
        #: Called by a supervisor when its watcher runs here no more, with the claim that it had.
        self.ended: Callable[[Supervisor, Lease], None] = lambda supervisor, lease: None
