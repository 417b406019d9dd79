"""The way of an event loop's operations into a lane and back: one hop there and one back for each batch."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from copy import copy
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar

from ....errors import DatabaseError, StoreBusyError, StoreCorruptError, StoreFullError
from ..batching import Batcher, Job
from .errors import mapped
from .lane import Lane, Waiting

__all__ = ["Outcome", "Stream"]

A = TypeVar("A")
Q = TypeVar("Q", bound=tuple[float, Any])

#: A result, or the error that is raised instead.
Outcome = Any


class _Crowd(Waiting, Generic[Q, A]):
    """Speak for everybody in a batch.

    :ivar jobs: those that are not answered yet; the first of them came first.
    :ivar over: those of them whose time is over.
    """

    __slots__ = ("jobs", "over")

    def __init__(self, jobs: Sequence[Job[Q, A]]) -> None:
        self.jobs = jobs
        self.over: list[Job[Q, A]] = []

    @property
    def deadline(self) -> float:
        """Return until when the first of them waits."""
        return self.jobs[0].asked[0]

    def check(self) -> None:
        """Leave out those that were cancelled meanwhile: what has not begun never will."""
        self.jobs = [job for job in self.jobs if not job.future.cancelled()]
        if not self.jobs:
            raise asyncio.CancelledError

    def refuse(self, error: Exception) -> None:
        """Raise an error where the time of some is over."""
        now = time.monotonic()
        self.over = [job for job in self.jobs if job.asked[0] <= now]
        if self.over:
            raise error


class Stream(ABC, Generic[Q, A]):
    """Carry what one event loop asks of one lane.

    What is asked is a tuple that begins with the moment until which the caller waits for a lock.

    :param lane: where it is done.
    :param place: the database, for messages.
    """

    #: Errors that may be the fault of one among many, and after which nothing of the others was done.
    _APART: ClassVar = (StoreFullError, StoreCorruptError)

    def __init__(self, lane: Lane, place: str) -> None:
        self._lane = lane
        self._place = place
        self._loop = asyncio.get_running_loop()
        self.batcher: Batcher[Q, A] = Batcher(self._send)

    @abstractmethod
    def perform(self, raw: sqlite3.Connection, jobs: Sequence[Job[Q, A]]) -> list[Outcome]:
        """Do what a batch asks for; gives the outcomes of as many of its first jobs as were done.

        Called in the lane's thread, and again where SQLite is busy or a part is left.
        """

    def sending(self, jobs: Sequence[Job[Q, A]]) -> None:
        """Hear of the jobs that go out now, on the loop."""

    def settled(self) -> None:
        """Hear that those are answered, on the loop."""

    def innocent(self, job: Job[Q, A]) -> bool:
        """Tell whether a job cannot be the cause of a failure, nor need suffer from it."""
        return False

    def _send(self, jobs: list[Job[Q, A]]) -> None:
        self.sending(jobs)
        try:
            self._lane.send(partial(self._carry, jobs))
        except Exception as error:  # closed, or no thread can be started
            self._settle(jobs, self.each(jobs, error), len(jobs))

    def _carry(self, jobs: list[Job[Q, A]]) -> None:
        # In the lane's thread.
        left: list[Job[Q, A]] = jobs
        outcomes: list[Outcome] = []
        crowd = _Crowd(jobs)
        try:
            while True:
                try:
                    outcomes = self._lane.work(crowd, self._perform, crowd)
                except StoreBusyError as error:
                    rest = [job for job in crowd.jobs if job not in crowd.over]
                    if not rest or not crowd.over:
                        raise
                    self.report(crowd.over, self._apart(crowd.over, error))
                    crowd.jobs = rest  # they wait on
                    continue
                done = len(outcomes)
                if done == len(crowd.jobs):
                    left = list(crowd.jobs)
                    break
                self.report(crowd.jobs[:done], outcomes)
                crowd.jobs = crowd.jobs[done:]
        except asyncio.CancelledError:
            left, outcomes = [], []
        except BaseException as error:
            left = list(crowd.jobs)
            outcomes = self._apart(left, error)
        self.report(left, outcomes, len(jobs))

    def _perform(self, raw: sqlite3.Connection, crowd: _Crowd[Q, A]) -> list[Outcome]:
        return self.perform(raw, crowd.jobs)

    def _apart(self, jobs: list[Job[Q, A]], error: BaseException) -> list[Outcome]:
        # One of them may have been too much for the disk, or be on a damaged page: nobody suffers for another.
        if len(jobs) == 1 and not self.innocent(jobs[0]):
            return [error]
        apart = isinstance(error, self._APART) or type(error) is DatabaseError or _is_unwritten(error)
        return [self._alone(job) if apart or self.innocent(job) else _another(error) for job in jobs]

    def _alone(self, job: Job[Q, A]) -> Outcome:
        crowd = _Crowd([job])
        try:
            return self._lane.work(crowd, self._perform, crowd)[0]
        except BaseException as error:
            return error

    def explain(self, error: Exception) -> Exception:
        """Give the store's error for one of SQLite's."""
        try:
            with mapped(self._place):
                raise error
        except Exception as found:
            return found

    def each(self, jobs: Sequence[Job[Q, A]], error: BaseException) -> list[Outcome]:
        """Give everybody an error of their own: whoever catches one may add to it."""
        if isinstance(error, sqlite3.Error):
            error = self.explain(error)
        return [error] if len(jobs) == 1 else [_another(error) for _ in jobs]

    def report(self, jobs: Sequence[Job[Q, A]], outcomes: list[Outcome], returned: int = 0) -> None:
        """Give the callers their outcomes, from the lane's thread.

        :param jobs: whose outcomes these are.
        :param outcomes: one for each.
        :param returned: how many jobs went out with the batch that is answered now; 0 where more is to come.
        """
        with suppress(RuntimeError):  # the loop is closed, and so nobody waits
            self._loop.call_soon_threadsafe(self._settle, jobs, outcomes, returned)

    def _settle(self, jobs: Sequence[Job[Q, A]], outcomes: list[Outcome], returned: int) -> None:
        for job, outcome in zip(jobs, outcomes, strict=True):
            future = job.future
            if future.done():
                continue
            if isinstance(outcome, BaseException):
                future.set_exception(self.explain(outcome) if isinstance(outcome, sqlite3.Error) else outcome)
            else:
                future.set_result(outcome)
        if returned:
            self.settled()
            self.batcher.returned(returned)


def _is_unwritten(error: BaseException) -> bool:
    # As where a file may not grow beyond a limit: said before anything is committed.
    return getattr(error.__cause__, "sqlite_errorname", None) == "SQLITE_IOERR_WRITE"


def _another(error: BaseException) -> BaseException:
    found = copy(error)
    found.__cause__ = error.__cause__
    return found
