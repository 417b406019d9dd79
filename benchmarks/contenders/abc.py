"""What a contender does."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from ..measuring.loop import KINDS, Kind, Operation, PlainOperation, Sample, closed_loop, plain_loop

__all__ = ["AsyncContender", "Contender", "PlainContender"]


class Contender(ABC):
    """Something whose operations are measured.

    :param name: unique among those that are measured together.
    :param keys: what it reads and overwrites, in this order.
    """

    #: What it can do.
    kinds: tuple[Kind, ...] = KINDS

    def __init__(self, name: str, keys: Sequence[str]) -> None:
        self.name = name
        self.keys = keys

    @abstractmethod
    def open(self) -> None:
        """Connect, and fill what is not filled yet; undoes a half of it."""

    @abstractmethod
    def close(self) -> None:
        """Let go of everything."""

    @abstractmethod
    def measure(self, kind: Kind, level: int, seconds: float) -> Sample:
        """Run the measuring loop.

        :param kind: what to do.
        :param level: how many at a time.
        :param seconds: how long.
        """


class AsyncContender(Contender):
    """A contender whose operations are coroutines, run on the runner that all of them share.

    :param name: the name.
    :param keys: the keys.
    :param runner: runs the loop.
    """

    def __init__(self, name: str, keys: Sequence[str], runner: asyncio.Runner) -> None:
        super().__init__(name, keys)
        self._runner = runner
        self._operations: Mapping[Kind, Operation] = {}

    @abstractmethod
    async def aopen(self) -> Mapping[Kind, Operation]:
        """Connect, and fill; gives the operations."""

    @abstractmethod
    async def aclose(self) -> None:
        """Let go of everything, half-open too."""

    def open(self) -> None:
        """Do what `aopen` does."""
        try:
            self._operations = self._runner.run(self.aopen())
        except BaseException:
            self._runner.run(self.aclose())
            raise

    def close(self) -> None:
        """Do what `aclose` does."""
        self._runner.run(self.aclose())

    def measure(self, kind: Kind, level: int, seconds: float) -> Sample:
        """Run the closed loop."""
        return self._runner.run(closed_loop(self._operations[kind], self.keys, level, seconds))


class PlainContender(Contender):
    """A contender whose operations are plain functions: one at a time, on the calling thread, at every level."""

    _operations: Mapping[Kind, PlainOperation]

    def measure(self, kind: Kind, level: int, seconds: float) -> Sample:
        """Run the plain loop; the level says nothing to it."""
        return plain_loop(self._operations[kind], self.keys, seconds)
