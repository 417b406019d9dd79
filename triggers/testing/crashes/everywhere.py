"""Killing a watcher at every point in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack

import anyio.from_thread
import anyio.to_thread

from ...abc import BaseTrigger
from ...watcher import AssetWatcher
from .hints import hint
from .judging import judge
from .life import Life
from .options import CrashOptions, Options, Payloads
from .report import CrashOutcome, CrashReport
from .story import MANY, Blow, Fault, Story, World

__all__ = ["crash_everywhere", "crash_everywhere_sync"]

#: Points behind the last event at which the watcher is killed, too; what it does there it does for ever.
_TAIL = 20

Make = Callable[[], AssetWatcher | BaseTrigger]


@dataclass(frozen=True)
class _Plan:
    """Hold how the runs are made and judged."""

    story: Story
    options: Options

    def told(self, *blows: Blow) -> tuple[list[Life], World]:
        """Run the watcher once for each blow, and once more with nothing going wrong, in the same world."""
        self.options.source()
        world, lives = World(), list[Life]()
        for number, blow in enumerate((*blows, Blow())):
            if number:
                self.options.between()
                world.clock.pass_seconds(self.options.downtime)
            lives.append(Life(self.story, world, blow))
            lives[-1].run()
        return lives, world

    def expected(self, calm: Life, world: World) -> list[Any]:
        """Give what should be in the log: what the caller says, or what came when nothing went wrong."""
        given = self.options.expected
        if given is not None:
            return _payloads(given)
        if calm.ending == "endless":
            raise ValueError(f"the watcher told more than {MANY} events; say how many are enough: take=100")
        payloads = [event.payload for event in world.log()]
        first, rest = payloads[: len(calm.recording.events)], payloads[len(calm.recording.events) :]
        # What the restarted watcher tells of `between` is new; what it tells again is not expected.
        known = {self.story.identify(payload) for payload in first}
        found = first + [payload for payload in rest if self.story.identify(payload) not in known]
        return found[: self.story.take]

    def outcome(self, expected: Sequence[Any], lives: Sequence[Life], world: World, fault: Fault) -> CrashOutcome:
        """Judge what the lives left in the log."""
        options = self.options
        verdict = judge(
            expected,
            [event.payload for event in world.log()],
            identify=options.identify,
            ordered=options.ordered,
            optional=_payloads(options.optional),
            endless=options.take is not None,
        )
        return CrashOutcome(
            fault,
            lives[0].struck,
            lives[1].struck if len(lives) > 2 else None,
            verdict,
            hint(verdict, lives, options.identify),
            lives[-1].ending,
            tuple(f"{type(each.error).__name__}: {each.error}" for life in lives for each in life.recording.failures),
        )


def _payloads(given: Payloads) -> list[Any]:
    return list(given() if callable(given) else given)


def _count(life: Life, fault: Fault) -> int:
    """Give how often a fault can strike in a life like this one."""
    if fault is Fault.KILL:
        return min(life.points, life.eventful + _TAIL)
    return life.operations if fault is Fault.BUSY else life.commits


def _blows(life: Life, options: Options) -> Iterator[tuple[Blow, ...]]:
    for fault in options.faults:
        for at in range(1, min(_count(life, fault), options.limit) + 1):
            yield (Blow(fault, at),)
            for second in options.again if fault is Fault.KILL else ():
                yield Blow(fault, at), Blow(Fault.KILL, second)


def _crash(make: Make, options: Options, pause: Callable[[], None]) -> CrashReport:
    story = Story(
        make=make,
        asset=options.asset,
        settings=options.settings,
        identify=options.identify,
        quiet=options.quiet,
        idle=options.idle,
        follow=options.follow,
        take=options.take,
    )
    # With nothing going wrong there is a restart in the middle still, for `between`.
    plan = _Plan(story, options)
    calm, world = plan.told(Blow())
    expected = plan.expected(calm[0], world)
    plan = replace(plan, story=replace(story, wanted=frozenset(map(options.identify, expected))))
    outcomes = [plan.outcome(expected, calm, world, Fault.KILL)]
    for blows in _blows(calm[0], options):
        pause()
        lives, world = plan.told(*blows)
        if all(life.struck is not None for life in lives[: len(blows)]):  # else there were fewer points this time
            right = expected if options.expected is None else _payloads(options.expected)
            outcomes.append(plan.outcome(right, lives, world, blows[0].fault))
    cut_short = any(_count(calm[0], fault) > options.limit for fault in options.faults)
    return CrashReport(tuple(expected), tuple(outcomes), cut_short)


def crash_everywhere_sync(make: Make, **options: Unpack[CrashOptions]) -> CrashReport:
    """Kill a watcher at each `await` of its own in turn, restart it, and tell which events were lost or doubled.

    ::

        crash_everywhere_sync(lambda: Numbers(upto=3), expected=[1, 2, 3]).check()

    Each run begins with an empty store in memory and virtual time. The watcher runs under a `Triggerer` in an event
    loop of its own; at its n-th suspension the loop stops as if the process were killed: no `finally`, no `except`,
    no `cleanup()`, nothing. What was committed stays. Then a new triggerer on a new loop runs a new trigger until
    it is done, or nothing comes any more. Every operation on the store suspends twice: before it is made, and
    before its answer is seen.

    :param make: gives the trigger, or a watcher with its name; called for each start.
    :param options: see `CrashOptions`.
    :raises ValueError: there are more than 2,000 events, and `take` was not given.
    :raises RuntimeError: this thread runs an event loop; await `crash_everywhere` there.
    """
    if asyncio._get_running_loop() is not None:  # pyright: ignore[reportPrivateUsage]  # documented
        raise RuntimeError("this thread runs an event loop; await crash_everywhere(...) instead")
    return _crash(make, Options(**options), lambda: None)


async def crash_everywhere(make: Make, **options: Unpack[CrashOptions]) -> CrashReport:
    """Do what `crash_everywhere_sync` does, from a coroutine: in a thread, so that the caller's loop goes on.

    A cancellation ends it before the next run.

    :param make: gives the trigger, or a watcher with its name; called for each start, in the thread.
    :param options: see `CrashOptions`.
    :raises ValueError: there are more than 2,000 events, and `take` was not given.
    """
    chosen = Options(**options)
    return await anyio.to_thread.run_sync(lambda: _crash(make, chosen, anyio.from_thread.check_cancelled))
