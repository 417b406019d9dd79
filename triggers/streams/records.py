"""What a producer is told about a raw event."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

__all__ = ["AdvanceItem", "Verdict"]


class Verdict(enum.Enum):
    """Suggest what to do with a raw event that every subscriber has answered."""

    ACKNOWLEDGE = "acknowledge"
    REDELIVER = "redeliver"
    DEAD_LETTER = "dead-letter"


@dataclass(frozen=True, slots=True)
class AdvanceItem:
    """Hold the receipt of one raw event, and how many watchers gave which answer.

    :param receipt: what the producer yielded with the raw event.
    :param accepted: those that derived at least one event from it; all of them are committed.
    :param rejected: those that passed over it.
    :param failed: those that raised while they worked on it, were taken over by another process or fell behind.
    """

    receipt: Any
    accepted: int = 0
    rejected: int = 0
    failed: int = 0

    @property
    def verdict(self) -> Verdict:
        """Return what suits most brokers: redeliver what failed anywhere, dead-letter what nobody wanted.

        What nobody answered, because every watcher of it ended, is redelivered, too.
        """
        if self.failed or not (self.accepted or self.rejected):
            return Verdict.REDELIVER
        return Verdict.ACKNOWLEDGE if self.accepted else Verdict.DEAD_LETTER
