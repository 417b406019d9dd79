"""What a watcher did: the events it committed, the state it wrote and with which of them, and how it failed."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from asyncstore import Clear, Commit, CommitResult, Delete, Event, JsonValue, Put

from .observing import Operation

__all__ = ["RecordedCommit", "Recording", "StateWrite", "WatcherFailure"]


@dataclass(frozen=True, slots=True)
class StateWrite:
    """Tell of one change of state.

    :ivar scope: the name of the asset, or the id of the task.
    :ivar key: the key; None where all were cleared.
    :ivar value: what was written; None where the key was deleted.
    """

    scope: str
    key: str | None
    value: JsonValue

    def __str__(self) -> str:
        if self.key is None:
            return f"{self.scope}: cleared"
        what = f"{self.scope}[{self.key!r}]"
        return f"{what} deleted" if self.value is None else f"{what} = {self.value!r}"


@dataclass(frozen=True, slots=True)
class RecordedCommit:
    """Tell of one commit of a watcher: an event with its checkpoint, or a write that the watcher made by itself.

    :ivar event: the event; None for a write that went without one.
    :ivar duplicate: its key had been recorded before, so it was not recorded again.
    :ivar writes: the changes of state, in order.
    :ivar at: when, in the seconds of the event loop.
    """

    event: Event | None
    duplicate: bool
    writes: tuple[StateWrite, ...]
    at: float

    def __str__(self) -> str:
        what = "write" if self.event is None else f"event {self.event.id} {self.event.payload!r}"
        again = " (its key was known)" if self.duplicate else ""
        state = "; ".join(map(str, self.writes))
        return f"{self.at:g} s: {what}{again}{' with ' if self.event and state else ' '}{state}".rstrip()


@dataclass(frozen=True, slots=True)
class WatcherFailure:
    """Tell of one error that `run` raised, and after which it was started again.

    :ivar error: the error.
    :ivar attempt: which attempt it was, from 1.
    :ivar at: when, in the seconds of the event loop.
    """

    error: Exception
    attempt: int
    at: float

    def __str__(self) -> str:
        text = "".join(traceback.format_exception_only(self.error)).strip()
        frames = traceback.extract_tb(self.error.__traceback__)
        where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
        return f"{self.at:g} s: attempt {self.attempt} raised {text}{where}"


class Recording:
    """Keep what a watcher did, in order.

    :param loop: the event loop that the watcher runs on.
    :param asset: the name of the watched asset.
    :param watcher: the watcher's name.
    :ivar commits: the events, and the writes made without one.
    :ivar failures: what `run` raised.
    :ivar attempts: how often `run` was called.
    :ivar done: `run` has returned.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, asset: str, watcher: str) -> None:
        self._loop = loop
        self.asset = asset
        self.watcher = watcher
        self.commits: list[RecordedCommit] = []
        self.failures: list[WatcherFailure] = []
        self.attempts = 0
        self.done = False
        self._changed = asyncio.Event()

    def __str__(self) -> str:
        head = f"watcher {self.watcher!r} of asset {self.asset!r}: {len(self.events)} events, "
        head += f"{len(self.failures)} failures, {self.attempts} attempts"
        return "\n".join([head, *(f"  {each}" for each in (*self.commits, *self.failures))])

    def __repr__(self) -> str:
        return f"<Recording of {self.watcher!r}: {len(self.events)} events, {len(self.failures)} failures>"

    @property
    def events(self) -> list[Event]:
        """Return the events that are new in the log."""
        return [each.event for each in self.commits if each.event is not None and not each.duplicate]

    @property
    def payloads(self) -> list[Any]:
        """Return what the new events say."""
        return [event.payload for event in self.events]

    @property
    def plain_writes(self) -> list[RecordedCommit]:
        """Return the writes that no event was committed with: a crash may come between them and the events."""
        return [each for each in self.commits if each.event is None]

    def history(self, key: str) -> list[JsonValue]:
        """Give what a key of the watched asset was set to, in order; None where it was deleted or cleared.

        :param key: the key.
        """
        writes = (write for each in self.commits for write in each.writes if write.scope == self.asset)
        return [write.value for write in writes if write.key in {key, None}]

    async def around(self, operation: Operation, call: Callable[[], Awaitable[Any]]) -> Any:
        """Await an operation of the backend, and keep it where it is a commit of this watcher."""
        result = await call()
        commit = operation.commit
        if commit is not None and self.concerns(commit):
            self.keep(commit, result)
        return result

    def concerns(self, commit: Commit) -> bool:
        """Tell whether a commit is one of this watcher."""
        lease = commit.lease
        return lease is not None and (lease.asset.name, lease.name) == (self.asset, self.watcher)

    def keep(self, commit: Commit, result: CommitResult) -> None:
        """Keep a commit that was made."""
        writes = tuple(_write(change) for change in commit.changes)
        at = self._loop.time()
        for new, recorded in zip(commit.events, result.events, strict=True):
            payload = json.loads(new.payload)
            event = Event(recorded.id, self.asset, self.watcher, payload, new.key, result.committed_at)
            self.commits.append(RecordedCommit(event, recorded.duplicate, writes, at))
        if not commit.events:
            self.commits.append(RecordedCommit(None, False, writes, at))
        self.tell()

    # What `run` does; a `RunListener`.

    def run_prepared(self) -> None:
        """Take no notice."""

    def run_started(self, events: AsyncIterator[Any]) -> None:
        """Count an attempt."""
        self.attempts += 1
        self.done = False
        self.tell()

    def run_entered(self) -> None:
        """Take no notice."""

    def run_left(self, error: Exception | None) -> None:
        """Keep an error."""
        if isinstance(error, StopAsyncIteration):
            self.done = True
            self.tell()
        elif error is not None:
            self.failures.append(WatcherFailure(error, self.attempts, self._loop.time()))
            self.tell()

    async def changed(self) -> None:
        """Wait until something is added."""
        await self._changed.wait()

    def tell(self) -> None:
        """Wake those who wait for something to be added; from any thread, for a commit may come from one."""
        self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _write(change: Put | Delete | Clear) -> StateWrite:
    name = getattr(change.scope, "name", None) or getattr(change.scope, "ti_id", None) or str(change.scope)
    if isinstance(change, Put):
        return StateWrite(name, change.key, json.loads(change.value))
    return StateWrite(name, None if isinstance(change, Clear) else change.key, None)
