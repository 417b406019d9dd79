"""Reads that were asked for behind a write of the same key that is not answered yet: they take their turn behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ....changes import Delete, Put
from ....scopes import Scope
from ..batching import Job
from ..pending import Pending
from .link import Link
from .writing import Write

__all__ = ["Reading", "Turn", "Turns", "outcome_behind", "split"]


@dataclass(slots=True)
class Reading:
    """Ask for a read in its turn.

    :ivar scope: of what is read.
    :ivar key: of what is read; None for anything of the scope.
    :ivar start: begins it, on a connection of its own choice.
    :ivar work: does it on a given connection; None where `start` needs none of the pool's.
    :ivar plain: it asks for the text of the key and no more.
    :ivar behind: the write of the same batch whose outcome says what is read.
    """

    scope: Scope
    key: str | None
    start: Callable[[], Awaitable[Any]]
    work: Callable[[Link], Awaitable[Any]] | None = None
    plain: bool = False
    behind: Turn | None = None


Turn = Job[Write | Reading, Any]


class Turns:
    """Know which keys have a write that is not answered yet."""

    def __init__(self) -> None:
        self._sent: Sequence[Turn] = ()
        self._indexed: Pending | None = None
        self._waiting: tuple[Pending, int] | None = None

    def sent(self, batch: Sequence[Turn]) -> None:
        """Hear of the batch that is on its way from now on; nothing, once it is answered."""
        self._sent = batch
        self._indexed = self._waiting = None

    def touches(self, waiting: Collection[Turn], scope: Scope, key: str | None) -> bool:
        """Tell whether what is on its way, or waits for its turn, may write a key, or for None anything of a scope."""
        # Built when a read asks; for most batches nobody does.
        if self._indexed is None:
            self._indexed = Pending()
            _index(self._indexed, self._sent)
        if self._indexed.touches(scope, key):
            return True
        if not waiting:
            return False
        pending, known = self._waiting or (Pending(), 0)
        if known < len(waiting):
            _index(pending, islice(waiting, known, None))
            self._waiting = pending, len(waiting)
        return pending.touches(scope, key)


def _index(pending: Pending, jobs: Iterable[Turn]) -> None:
    for job in jobs:
        if isinstance(job.asked, Write) and not job.future.done():
            pending.add(job.asked.commit)


def split(batch: Iterable[Turn]) -> list[list[Turn]]:
    """Split a batch into parts of writes only or reads only, so that a read is behind the writes of its key before it.

    A plain read right behind a plain write of its key is left to that write's outcome, so that the writes on either
    side of it stay together.
    """
    parts: list[list[Turn]] = []
    before: list[Turn] = []
    writes: list[Turn] = []
    after: list[Turn] = []
    pending = Pending()
    last: dict[Hashable, Turn] = {}
    for job in batch:
        asked = job.asked
        if isinstance(asked, Write):
            writes.append(job)
            pending.add(asked.commit)
            _note(last, job, asked)
        elif not pending.touches(asked.scope, asked.key):
            before.append(job)
        elif asked.plain and (writer := last.get((asked.scope, asked.key))) is not None:
            asked.behind = writer
            after.append(job)
        else:
            parts += [before, writes]
            before, writes, after = [*after, job], [], []
            pending, last = Pending(), {}
    return [part for part in [*parts, before, writes, after] if part]


def _note(last: dict[Hashable, Turn], job: Turn, write: Write) -> None:
    change = write.commit.changes[0] if len(write.commit.changes) == 1 else None
    if write.put is not None:
        last[write.put.scope, write.put.key] = job
    elif isinstance(change, Delete) and write.commit.lease is None:
        last[change.scope, change.key] = job
    else:
        # What this does to which key is not for us to say.
        last.clear()


def outcome_behind(writer: Turn) -> tuple[bool, str | None]:
    """Tell whether the outcome of a plain write says what its key holds right behind it, and what."""
    future = writer.future
    if not isinstance(writer.asked, Write) or not future.done() or future.cancelled() or future.exception() is not None:
        return False, None
    change = writer.asked.commit.changes[0]
    if not isinstance(change, Put) or (
        change.expires_at is not None and change.expires_at <= future.result().committed_at
    ):
        return True, None
    return True, change.value
