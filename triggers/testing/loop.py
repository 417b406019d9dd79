"""An event loop whose time jumps to the next timer as soon as nothing else is left to do."""

from __future__ import annotations

import asyncio
import math
import random
import selectors
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import copy_context
from typing import Any, TypeVar, TypeVarTuple, Unpack

from ..pacing import jitter_here
from .clock import VirtualClock
from .foreign import ForeignWork

__all__ = ["ClockStalledError", "VirtualEventLoop", "run_virtual", "virtual_clock"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class ClockStalledError(RuntimeError):
    """Say that virtual time cannot pass: somebody owes the loop an answer for too long, or nothing can happen."""


class _JumpingSelector(selectors.BaseSelector):
    """Ask a real selector, and let virtual time pass instead of waiting."""

    def __init__(self, wait: Callable[[selectors.BaseSelector, float | None], list[Any]]) -> None:
        self._real = selectors.DefaultSelector()
        self._wait = wait

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = self._real.select(0)
        return ready if ready or timeout == 0 else self._wait(self._real, timeout)


class VirtualEventLoop(asyncio.SelectorEventLoop):
    """Run on virtual time: an hour of sleeping takes no time at all.

    Time stands still while any callback can run and while somebody outside owes an answer (see
    `triggers.testing.foreign`); else it jumps to the next timer. So what happens, and in which order, depends on the
    program alone, as long as it stays on the loop. Use it with
    `anyio.run(main, backend_options={"loop_factory": VirtualEventLoop})`, with `asyncio.Runner`, or with `run_virtual`.

    :param clock: the time; a new one by default.
    :param grace: real seconds to wait before each jump while the program has sockets open, which may bring
        something at any time.
    :param patience: real seconds that an answer may take, or that may pass where no timer is left to jump to.
    """

    def __init__(self, clock: VirtualClock | None = None, *, grace: float = 0.02, patience: float = 60.0) -> None:
        self.clock = VirtualClock() if clock is None else clock
        self._grace = grace
        self._patience = patience
        self._foreign = ForeignWork(self)
        super().__init__(_JumpingSelector(self._wait))
        #: The loop's own way to be woken is among the sockets.
        self._own_sockets = len(self._sockets())
        self._refine()

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self.clock.seconds

    def create_future(self) -> asyncio.Future[Any]:
        """Make a future, and remember who asked for it."""
        future = super().create_future()
        self._foreign.note(future, sys._getframe(1))  # pyright: ignore[reportPrivateUsage]  # no other way
        return future

    def _sockets(self) -> Mapping[Any, Any]:
        sockets: Mapping[Any, Any] = vars(self)["_selector"].get_map()
        return sockets

    def _owed(self) -> list[str]:
        held = ["a `hold` of the clock"] if self.clock.is_held else []
        return held + self._foreign.owed(list(vars(self)["_scheduled"]))

    def _wait(self, real: selectors.BaseSelector, timeout: float | None) -> list[Any]:
        """Wait for what is owed; where nothing is, let the timeout pass at once."""
        ends = time.monotonic() + self._patience
        while timeout is None or self._owed():
            # An answer wakes the loop. Short waits, because one may be given up without a word.
            if ready := real.select(0.1):
                return ready
            if time.monotonic() >= ends:
                raise ClockStalledError(self._why())
        if len(self._sockets()) > self._own_sockets and (ready := real.select(self._grace)):
            return ready
        # The loop itself would wait a day at most.
        self.clock.pass_seconds(vars(self)["_scheduled"][0].when() - self.clock.seconds)
        self._refine()
        return []

    def _refine(self) -> None:
        # Late in time a nanosecond is less than a float can tell, and a timer would never be due.
        vars(self)["_clock_resolution"] = max(1e-9, 2 * math.ulp(self.clock.seconds))

    def _why(self) -> str:
        owed = self._owed()
        if not owed:
            return f"nothing can happen any more: no timer is left, and nothing came for {self._patience:g} s"
        return (
            f"virtual time stands still: for {self._patience:g} s nobody has settled {', '.join(owed)}; time does not "
            "pass for a task of this loop that will settle it after a while: an asyncio.Event or Queue lets it"
        )


def run_virtual(function: Callable[[Unpack[Ts]], Awaitable[T]], *args: *Ts, clock: VirtualClock | None = None) -> T:
    """Run an async function on virtual time, from sync code; the jitter of delays is the same each time.

    :param function: what to run.
    :param args: its arguments.
    :param clock: the time; a new one by default.
    :return: what it returns.
    """

    async def main() -> T:
        return await function(*args)

    with asyncio.Runner(loop_factory=lambda: VirtualEventLoop(clock)) as runner:
        context = copy_context()
        context.run(jitter_here.set, random.Random(0))  # noqa: S311 - no secret
        return runner.run(main(), context=context)


def virtual_clock() -> VirtualClock | None:
    """Return the clock of the running event loop; None where its time is real, or where none runs."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    return loop.clock if isinstance(loop, VirtualEventLoop) else None
