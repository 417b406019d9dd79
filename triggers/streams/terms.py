"""What a hub asks of each of its streams."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from ..pacing import Drain

__all__ = ["Terms"]


@dataclass(frozen=True, slots=True)
class Terms:
    """Hold the buffer of a stream, its delays, and whom to tell of its end.

    :param size: raw events that are kept, or that may be outstanding.
    :param opens_at: on the loop's clock, when the source may be opened.
    :param patience: seconds that a full stream waits for an answer.
    :param closing: seconds that closing may take.
    :param drain: what shields it.
    :param on_end: called once with the stream, its error and the seconds it ran, when it ended or failed by itself.
    """

    size: int
    opens_at: float
    patience: float
    closing: float
    drain: Drain
    on_end: Callable[[object, Exception | None, float], None]

    def shield(self) -> AbstractContextManager[object]:
        """Shield what closes something."""
        return self.drain.shield(self.closing)
