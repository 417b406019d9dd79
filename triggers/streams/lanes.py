"""What a producer has not advanced yet, lane by lane."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskGroup

from ..pacing import Drain
from .records import AdvanceItem
from .source import uninvited

if TYPE_CHECKING:
    from ..abc import SharedStreamProducer

__all__ = ["Answer", "Lanes", "Outstanding"]


class Answer(enum.Enum):
    """What a subscriber answers."""

    ACCEPTED = enum.auto()
    REJECTED = enum.auto()
    FAILED = enum.auto()
    #: It ended and wants no more.
    NONE = enum.auto()


@dataclass(slots=True, eq=False)
class Outstanding:
    """Hold a raw event that was given out and is not advanced.

    :param raw: the raw event.
    :param receipt: its receipt.
    :param lane: its lane.
    :param pending: who has not answered.
    """

    raw: Any
    receipt: Any
    lane: Hashable
    pending: set[Hashable]
    answers: dict[Answer, int] = field(default_factory=lambda: dict.fromkeys(Answer, 0))

    @property
    def item(self) -> AdvanceItem:
        """Return what the producer is told."""
        return AdvanceItem(
            self.receipt,
            accepted=self.answers[Answer.ACCEPTED],
            rejected=self.answers[Answer.REJECTED],
            failed=self.answers[Answer.FAILED],
        )


class Lanes:
    """Advance what all have answered: in order within a lane, and no lane waits for another.

    :param producer: whom to tell.
    :param size: how many raw events may be outstanding.
    :param closing: seconds that `advance` may take once the lanes are closed.
    :param on_error: called when `advance` raises; nothing is advanced any more then.
    """

    def __init__(
        self, producer: SharedStreamProducer, *, size: int, closing: float, on_error: Callable[[Exception], None]
    ) -> None:
        self._producer = producer
        self._size = size
        self._on_error = on_error
        self._outstanding: dict[Outstanding, None] = {}
        self._lanes: dict[Hashable, deque[Outstanding]] = {}
        self._busy: set[Hashable] = set()
        self._drain = Drain(closing)
        self._tasks: TaskGroup | None = None
        self._failed = False
        self._moved = anyio.Event()

    def __iter__(self) -> Iterator[Outstanding]:
        """Give what is outstanding, the oldest first."""
        return iter(list(self._outstanding))

    @property
    def is_full(self) -> bool:
        """Return whether no more may be given out."""
        return len(self._outstanding) >= self._size

    @property
    def is_empty(self) -> bool:
        """Return whether everything is advanced."""
        return not self._outstanding

    @property
    def oldest(self) -> Outstanding | None:
        """Return the oldest that is not answered."""
        return next((entry for entry in self._outstanding if entry.pending), None)

    def start(self, tasks: TaskGroup) -> None:
        """Advance from now on.

        :param tasks: where the lanes run.
        """
        self._tasks = tasks

    def close(self) -> None:
        """Begin no more; what is on its way is finished, within the time for closing."""
        self._tasks = None
        self._drain.begin()

    def add(self, entry: Outstanding) -> None:
        """Count a raw event as given out."""
        self._outstanding[entry] = None
        self._lanes.setdefault(entry.lane, deque()).append(entry)

    def answer(self, entry: Outstanding, name: Hashable, answer: Answer) -> None:
        """Count an answer; what comes twice or too late is none.

        :param entry: which raw event.
        :param name: who.
        :param answer: what.
        """
        if name not in entry.pending:
            return
        entry.pending.discard(name)
        entry.answers[answer] += 1
        lane = entry.lane
        if not entry.pending and self._lanes[lane][0] is entry and lane not in self._busy and self._tasks is not None:
            self._busy.add(lane)
            self._tasks.start_soon(self._advance, lane, name=f"shared stream: lane {lane!r:.100}")

    async def wait_moved(self) -> None:
        """Wait until something was advanced."""
        await self._moved.wait()

    async def _advance(self, lane: Hashable) -> None:
        queue = self._lanes[lane]
        while not self._failed and (batch := _answered(queue)):
            with self._drain.shield() as shield:
                try:
                    with uninvited(f"{type(self._producer).__qualname__}.advance"):
                        await self._producer.advance([entry.item for entry in batch])
                except Exception as error:
                    self._failed = True
                    self._on_error(error)
                    return
            if shield.cancelled_caught:
                return
            for entry in batch:
                queue.popleft()
                del self._outstanding[entry]
            self._moved.set()
            self._moved = anyio.Event()
        self._busy.discard(lane)
        if not queue:
            del self._lanes[lane]


def _answered(queue: deque[Outstanding]) -> list[Outstanding]:
    """Give what is answered without a gap."""
    batch: list[Outstanding] = []
    for entry in queue:
        if entry.pending:
            break
        batch.append(entry)
    return batch
