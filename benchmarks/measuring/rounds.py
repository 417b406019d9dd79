"""Rounds in turn: every contender is measured in every round, so that all see the same moods of the machine."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from ..contenders.abc import Contender
from ..progress import Progress
from .loop import Kind, Sample
from .spread import Spread

__all__ = ["Measured", "Plan", "interleave"]

#: A contender's name, the kind of operation, and the concurrency.
Cell = tuple[str, Kind, int]


@dataclass(frozen=True, slots=True)
class Plan:
    """Say what is measured and for how long.

    :ivar kinds: the kinds of operations.
    :ivar levels: the concurrencies.
    :ivar rounds: how often everything is repeated.
    :ivar seconds: how long each contender runs in each cell of each round.
    """

    kinds: tuple[Kind, ...]
    levels: tuple[int, ...]
    rounds: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Measured:
    """Hold the samples of every cell, in the order of the rounds.

    :ivar names: the contenders, in the order they were given.
    :ivar cells: the samples.
    :ivar failures: why a contender is missing, by name.
    """

    names: list[str]
    cells: dict[Cell, list[Sample]] = field(default_factory=dict[Cell, list[Sample]])
    failures: dict[str, str] = field(default_factory=dict[str, str])

    def of(self, name: str, kind: Kind, level: int) -> list[Sample]:
        """Give the samples of one cell; none where it was not measured."""
        return self.cells.get((name, kind, level), [])

    def rate(self, name: str, kind: Kind, level: int) -> Spread | None:
        """Give the operations per second of one cell."""
        found = self.of(name, kind, level)
        return Spread.of(each.rate for each in found) if found else None

    @property
    def data(self) -> list[dict[str, object]]:
        """Return it for JSON."""
        return [
            {
                "contender": name,
                "operation": kind,
                "concurrency": level,
                "per_second": Spread.of(each.rate for each in samples).data,
                "p50_us": Spread.of(each.p50 * 1e6 for each in samples).data,
                "p90_us": Spread.of(each.p90 * 1e6 for each in samples).data,
                "p99_us": Spread.of(each.p99 * 1e6 for each in samples).data,
                "worst_us": Spread.of(each.worst * 1e6 for each in samples).data,
                "rounds": len(samples),
            }
            for (name, kind, level), samples in self.cells.items()
        ]


def interleave(contenders: Sequence[Contender], plan: Plan, progress: Progress) -> Measured:
    """Measure every contender in turn, several times over; one that fails is left out from there on.

    :param contenders: opened here, and closed in the end.
    :param plan: what is measured.
    :param progress: told of every cell.
    """
    measured = Measured([each.name for each in contenders])
    with ExitStack() as stack:
        alive = [each for each in contenders if _opened(each, stack, measured, progress)]
        progress.expect(plan.rounds * len(plan.levels) * sum(len(_kinds(each, plan)) for each in alive), plan.seconds)
        for number in range(plan.rounds):
            for level in plan.levels:
                for kind in plan.kinds:
                    # Whoever comes first in one round comes last in a later one.
                    turn = number % max(len(alive), 1)
                    for contender in alive[turn:] + alive[:turn]:
                        if kind in contender.kinds and contender.name not in measured.failures:
                            progress.step(f"round {number + 1}/{plan.rounds}, {level} x {kind}: {contender.name}")
                            _measure(contender, (kind, level, plan.seconds), measured, progress)
        progress.done()
    return measured


def _kinds(contender: Contender, plan: Plan) -> list[Kind]:
    return [kind for kind in plan.kinds if kind in contender.kinds]


def _opened(contender: Contender, stack: ExitStack, measured: Measured, progress: Progress) -> bool:
    progress.say(f"filling {contender.name}")
    try:
        contender.open()
        stack.callback(contender.close)
        for kind in contender.kinds:
            contender.measure(kind, 1, 0.05)  # statements are prepared, caches are warm
    except Exception as error:
        _failed(contender, error, measured, progress)
        return False
    return True


def _measure(contender: Contender, cell: tuple[Kind, int, float], measured: Measured, progress: Progress) -> None:
    kind, level, seconds = cell
    try:
        sample = contender.measure(kind, level, seconds)
    except Exception as error:
        _failed(contender, error, measured, progress)
    else:
        measured.cells.setdefault((contender.name, kind, level), []).append(sample)


def _failed(contender: Contender, error: Exception, measured: Measured, progress: Progress) -> None:
    lines = str(error).strip().splitlines()
    measured.failures[contender.name] = f"{type(error).__name__}: {lines[0] if lines else ''}"
    progress.say(f"{contender.name} is left out: {measured.failures[contender.name]}")
