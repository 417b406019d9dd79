"""Comparing a log with what should be in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Verdict", "judge"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Tell how a log differs from what was expected.

    :ivar lost: expected, and not there; or less often.
    :ivar doubled: expected, and there more often; once for each time too many.
    :ivar unexpected: there, and never expected.
    :ivar out_of_order: there, and behind something that was expected later.
    """

    lost: tuple[Any, ...] = ()
    doubled: tuple[Any, ...] = ()
    unexpected: tuple[Any, ...] = ()
    out_of_order: tuple[Any, ...] = ()

    @property
    def ok(self) -> bool:
        """Tell whether nothing differs."""
        return not (self.lost or self.doubled or self.unexpected or self.out_of_order)


def judge(
    expected: Sequence[Any],
    payloads: Sequence[Any],
    *,
    identify: Callable[[Any], Hashable],
    ordered: bool = True,
    optional: Sequence[Any] = (),
    endless: bool = False,
) -> Verdict:
    """Compare a log with what was expected.

    :param expected: the payloads that should be there.
    :param payloads: those that are.
    :param identify: tells payloads apart.
    :param ordered: whether the order counts.
    :param optional: payloads that may be there, too, once.
    :param endless: the source goes on behind what is expected, so that other payloads are no surprise.
    """
    missing = Counter(map(identify, expected))
    allowed = Counter(map(identify, optional))
    known = set(missing) | set(allowed)
    doubled: list[Any] = []
    unexpected: list[Any] = []
    for payload in payloads:
        name = identify(payload)
        if missing[name]:
            missing[name] -= 1
        elif allowed[name]:
            allowed[name] -= 1
        elif name in known:
            doubled.append(payload)
        elif not endless:
            unexpected.append(payload)
    lost: list[Any] = []
    for payload in reversed(expected):  # of several alike, the last ones are missing
        if missing[identify(payload)]:
            missing[identify(payload)] -= 1
            lost.insert(0, payload)
    late = _out_of_order(expected, payloads, identify) if ordered else []
    return Verdict(tuple(lost), tuple(doubled), tuple(unexpected), tuple(late))


def _out_of_order(expected: Sequence[Any], payloads: Sequence[Any], identify: Callable[[Any], Hashable]) -> list[Any]:
    # Each payload counts where it came first: what comes again is doubled, not late.
    places: dict[Hashable, int] = {}
    for place, payload in enumerate(expected):
        places.setdefault(identify(payload), place)
    late: list[Any] = []
    furthest = -1
    seen: set[Hashable] = set()
    for payload in payloads:
        name = identify(payload)
        if name in places and name not in seen:
            seen.add(name)
            if places[name] < furthest:
                late.append(payload)
            furthest = max(furthest, places[name])
    return late
