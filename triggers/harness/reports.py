"""Telling the store how watchers do, without any of them waiting for it."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from anyio.abc import TaskGroup

from asyncstore import ClaimedWatcher, StoreError, WatcherState

__all__ = ["Reports"]

logger = logging.getLogger("triggers")

#: Reports that are on their way at a time: when many fail together, the store has time for the rest.
_AT_A_TIME = 4


@dataclass(slots=True)
class _Report:
    watcher: ClaimedWatcher
    state: WatcherState
    error: BaseException | None
    restarts: int


class Reports:
    """Keep the latest report of each watcher until it was sent.

    What fails is not tried again: the next report says more.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[ClaimedWatcher, _Report] = OrderedDict()  # its first is found at once
        self._sending: dict[ClaimedWatcher, asyncio.Event] = {}
        self._added = asyncio.Event()

    def start(self, tasks: TaskGroup) -> None:
        """Send what is reported, until the tasks are cancelled."""
        for _ in range(_AT_A_TIME):
            tasks.start_soon(self._send_all, name="triggerer: reports")

    def add(
        self, watcher: ClaimedWatcher, state: WatcherState, error: BaseException | None = None, *, restarts: int = 0
    ) -> None:
        """Report what a watcher is doing.

        :param watcher: the claimed watcher.
        :param state: what it is doing.
        :param error: its latest error, if there is a new one.
        :param restarts: how many to count.
        """
        before = self._waiting.get(watcher)
        if before is not None:
            error, restarts = error or before.error, restarts + before.restarts
        self._waiting[watcher] = _Report(watcher, state, error, restarts)
        self._added.set()

    async def settle(self, watcher: ClaimedWatcher) -> None:
        """Send what is left to say of a watcher, before its claim is given back."""
        while (sent := self._sending.get(watcher)) is not None:
            await sent.wait()
        if (report := self._waiting.pop(watcher, None)) is not None:
            await self._send(report)

    async def _send_all(self) -> None:
        while True:
            report = self._next()
            if report is None:
                self._added.clear()
                await self._added.wait()
            else:
                await self._send(report)

    def _next(self) -> _Report | None:
        free: Callable[[ClaimedWatcher], bool] = lambda watcher: watcher not in self._sending  # noqa: E731
        watcher = next(filter(free, self._waiting), None)
        return None if watcher is None else self._waiting.pop(watcher)

    async def _send(self, report: _Report) -> None:
        sent = self._sending[report.watcher] = asyncio.Event()
        text = None if report.error is None else "".join(traceback.format_exception(report.error))
        try:
            await report.watcher.areport(report.state, error=text, restarts=report.restarts)
        except StoreError as failure:
            logger.warning("what %r is doing (%s) could not be kept: %s", report.watcher, report.state, failure)
        except asyncio.CancelledError:
            self._waiting.setdefault(report.watcher, report)  # for `settle`
            raise
        finally:
            del self._sending[report.watcher]
            sent.set()
            self._added.set()  # what it was kept back for
