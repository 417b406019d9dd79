"""What the crashes did to a watcher's events."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .judging import Verdict
from .points import CrashPoint
from .story import Fault

__all__ = ["CrashOutcome", "CrashReport"]

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class CrashOutcome:
    """Tell what one run came to.

    :ivar fault: what went wrong.
    :ivar point: where; None for the run in which nothing did.
    :ivar again: where the restarted watcher was killed a second time; None where it was not.
    :ivar verdict: how the log differs from what was expected.
    :ivar hint: what the likely mistake is; empty where there is none.
    :ivar ending: how the last life ended: `done`, `idle`, `quiet`, `enough`, `endless`.
    :ivar errors: what `run` raised on the way.
    """

    fault: Fault
    point: CrashPoint | None
    again: CrashPoint | None
    verdict: Verdict
    hint: str
    ending: str
    errors: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Tell whether every event is there once."""
        return self.verdict.ok

    def __str__(self) -> str:
        return _tell([self])


@dataclass(frozen=True)
class CrashReport:
    """Tell what became of a watcher's events when it was killed at each `await` in turn.

    :ivar expected: what should be in the log.
    :ivar outcomes: one for each run.
    :ivar cut_short: not every point was tried; there were more than the limit.
    """

    expected: tuple[Any, ...]
    outcomes: tuple[CrashOutcome, ...]
    cut_short: bool = False

    @property
    def ok(self) -> bool:
        """Tell whether every event was there once, in order, in every run."""
        return not self.failures

    @property
    def failures(self) -> list[CrashOutcome]:
        """Return the runs in which something was lost, doubled, unexpected or out of order."""
        return [outcome for outcome in self.outcomes if not outcome.ok]

    @property
    def points(self) -> list[CrashPoint]:
        """Return where the watcher was killed, or its database failed, in order."""
        return [outcome.point for outcome in self.outcomes if outcome.point is not None]

    @property
    def lost(self) -> list[Any]:
        """Return the payloads that some run lost."""
        return self._all(lambda verdict: verdict.lost)

    @property
    def doubled(self) -> list[Any]:
        """Return the payloads that some run recorded more than once."""
        return self._all(lambda verdict: verdict.doubled)

    @property
    def unexpected(self) -> list[Any]:
        """Return the payloads that nobody expected."""
        return self._all(lambda verdict: verdict.unexpected)

    @property
    def out_of_order(self) -> list[Any]:
        """Return the payloads that came behind one that was expected later."""
        return self._all(lambda verdict: verdict.out_of_order)

    def _all(self, part: Callable[[Verdict], tuple[Any, ...]]) -> list[Any]:
        found: list[Any] = []
        for outcome in self.outcomes:
            found += [payload for payload in part(outcome.verdict) if payload not in found]
        places = {id(payload): len(self.expected) for payload in found}
        places |= {id(payload): self.expected.index(payload) for payload in found if payload in self.expected}
        return sorted(found, key=lambda payload: places[id(payload)])

    def check(self) -> None:
        """Do nothing, or say what went wrong and where.

        :raises AssertionError: an event was lost, doubled, unexpected or out of order.
        """
        if not self.ok:
            raise AssertionError(str(self))

    def __repr__(self) -> str:
        return f"<CrashReport: {len(self.points)} crashes, {len(self.failures)} bad>"

    def __str__(self) -> str:
        bad = self.failures
        head = f"{len(self.points)} crashes, each followed by a restart: "
        head += f"{len(bad)} runs went wrong" if bad else f"{len(self.expected)} events, none lost, none doubled"
        if self.cut_short:
            head += "; there are more points than the limit"
        groups: dict[object, list[CrashOutcome]] = {}
        for outcome in bad:
            groups.setdefault((outcome.fault, str(outcome.point), str(outcome.again), outcome.hint), []).append(outcome)
        shown = [_tell(group) for group in list(groups.values())[:_SHOWN]]
        if len(groups) > _SHOWN:
            shown.append(f"and at {len(groups) - _SHOWN} other places")
        return "\n".join([head, *(textwrap.indent(text, "  ") for text in shown)])


def _tell(alike: Sequence[CrashOutcome]) -> str:
    """Tell of runs that struck the same line in the same way, and went wrong for the same reason."""
    one = alike[0]
    parts: list[str] = []
    for name in ("lost", "doubled", "unexpected", "out_of_order"):
        found: list[Any] = []
        for each in alike:
            found += [payload for payload in getattr(each.verdict, name) if payload not in found]
        if found:
            parts.append(f"{name.replace('_', ' ')} {_few(found)}")
    lines = [", ".join(parts) or "every event once"]
    if one.point is None:
        lines.append("with nothing going wrong but a restart")
    else:
        lines.append(f"{one.fault} at {one.point}" + (f" ({len(alike)} times)" if len(alike) > 1 else ""))
    if one.again is not None:
        lines.append(f"and, restarted, killed at {one.again}")
    lines += [f"run() raised {error}" for error in one.errors[:2]]
    if one.hint:
        lines.append(one.hint)
    return "\n    ".join(lines)


def _few(payloads: Sequence[Any]) -> str:
    shown = ", ".join(repr(payload) for payload in payloads[:3])
    return f"{shown} and {len(payloads) - 3} more" if len(payloads) > 3 else shown
