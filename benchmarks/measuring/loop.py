"""The measuring loops: the same for every contender, and free of imports, so that a peer's environment can run them.

A loop is closed: each task begins its next operation when the last one is done. The clock is read twice an operation.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["KINDS", "Kind", "Operation", "PlainOperation", "Sample", "closed_loop", "plain_loop"]

Kind = Literal["get", "set"]
KINDS: tuple[Kind, ...] = ("get", "set")

#: Called with a key and a number that changes from call to call.
Operation = Callable[[str, int], Awaitable[object]]
PlainOperation = Callable[[str, int], object]

#: Tasks begin at keys that lie this far apart.
_STRIDE = 7919


@dataclass(frozen=True, slots=True)
class Sample:
    """Hold what one run of a loop gave.

    :ivar operations: how many were done.
    :ivar seconds: from the start of the first to the end of the last.
    :ivar p50: the median latency in seconds.
    :ivar p90: the latency that one in ten exceeds.
    :ivar p99: the latency that one in a hundred exceeds.
    :ivar worst: the longest.
    """

    operations: int
    seconds: float
    p50: float
    p90: float
    p99: float
    worst: float

    @property
    def rate(self) -> float:
        """Return the operations per second."""
        return self.operations / self.seconds

    @classmethod
    def of(cls, latencies: list[float], seconds: float) -> Sample:
        """Sum up the latencies of every operation.

        :raises ValueError: there was none.
        """
        if not latencies:
            raise ValueError("no operation came to its end")
        latencies.sort()
        count = len(latencies)
        p50, p90, p99 = (latencies[min(int(count * share), count - 1)] for share in (0.5, 0.9, 0.99))
        return cls(count, seconds, p50, p90, p99, latencies[-1])


def _salt() -> int:
    # What one loop wrote, the next must not write again: a database skips the write of what is there already.
    return random.randrange(1_000_000)


async def closed_loop(operation: Operation, keys: Sequence[str], level: int, seconds: float) -> Sample:
    """Let so many tasks repeat an operation for a time.

    :param operation: what is measured.
    :param keys: in the order in which they are used, over and over.
    :param level: how many tasks.
    :param seconds: when no further operation is begun; those under way are awaited.
    """
    latencies: list[float] = []
    clock = time.perf_counter
    salt = _salt()
    gc.collect()

    async def repeat(at: int) -> None:
        keep, count = latencies.append, len(keys)
        began = clock()
        while began < end:
            await operation(keys[at % count], at + salt)
            done = clock()
            keep(done - began)
            at += 1
            began = clock()

    started = clock()
    end = started + seconds
    await asyncio.gather(*(repeat(number * _STRIDE) for number in range(level)))
    return Sample.of(latencies, clock() - started)


def plain_loop(operation: PlainOperation, keys: Sequence[str], seconds: float) -> Sample:
    """Repeat a plain function for a time, on the calling thread.

    :param operation: what is measured.
    :param keys: in the order in which they are used, over and over.
    :param seconds: when no further operation is begun.
    """
    latencies: list[float] = []
    clock = time.perf_counter
    salt = _salt()
    gc.collect()
    keep, count, at = latencies.append, len(keys), 0
    started = began = clock()
    end = started + seconds
    while began < end:
        operation(keys[at % count], at + salt)
        done = clock()
        keep(done - began)
        at += 1
        began = clock()
    return Sample.of(latencies, clock() - started)
