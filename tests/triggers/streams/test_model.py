"""Random speeds, failures, interruptions and joins: every watcher commits what its filter should derive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st

from triggers import AdvanceItem, Verdict

from .broker import Broker
from .support import Driver, Messages, Numbers, Placed, World, cancelled_at, driver, settle

ITEMS = 12


@dataclass
class Watcher:
    every: int
    joins_after: int
    pace: dict[int, int]
    fail_at: set[int]
    interrupted_at: list[int]


@dataclass
class Course:
    buffer: int
    chunks: list[tuple[int, int]]
    source_fails_at: set[int]
    watchers: list[Watcher] = field(default_factory=list[Watcher])


numbers = st.integers(1, ITEMS)
watchers = st.builds(
    Watcher,
    every=st.integers(1, 4),
    joins_after=st.sampled_from([0, 0, 1, 5, 40, 150]),
    pace=st.dictionaries(numbers, st.sampled_from([1, 3, 20, 100]), max_size=6),
    fail_at=st.sets(numbers, max_size=2),
    interrupted_at=st.lists(st.integers(1, 60), max_size=3),
)
courses = st.builds(
    Course,
    buffer=st.integers(1, 6),
    chunks=st.lists(st.tuples(st.integers(1, 4), st.sampled_from([0, 1, 10, 60])), min_size=1, max_size=3),
    source_fails_at=st.sets(numbers, max_size=2),
    watchers=st.lists(watchers, min_size=1, max_size=4),
)


class Play:
    """Has everything happen as a course says."""

    def __init__(self, course: Course, kind: type[Numbers]) -> None:
        self.course = course
        self.kind = kind
        self.world = Numbers.world = World()
        self.world.fail_at = set(course.source_fails_at)
        self.world.on_work = self._work
        self.watchers = {f"w{index}": watcher for index, watcher in enumerate(course.watchers)}
        self.committed: dict[str, list[int]] = {}
        self._to_fail = {name: set(watcher.fail_at) for name, watcher in self.watchers.items()}

    def trigger(self, name: str) -> Numbers:
        return self.kind(name, every=self.watchers[name].every)

    def expected(self, name: str) -> list[int]:
        total = sum(count for count, _ in self.course.chunks)
        return [number for number in range(1, total + 1) if number % self.watchers[name].every == 0]

    async def _work(self, name: str, number: int) -> None:
        await settle(self.watchers[name].pace.get(number, 0))
        if number in self._to_fail[name]:
            self._to_fail[name].discard(number)
            raise OSError(f"{name} failed at {number}")

    async def run_watcher(self, drive: Driver, name: str) -> None:
        await settle(self.watchers[name].joins_after)
        for at in self.watchers[name].interrupted_at:
            try:
                if not await cancelled_at(at, drive.attempt(self.trigger(name))):
                    drive.hub.retire(name)
                    return
            except Exception as error:
                drive.errors.setdefault(name, []).append(error)
        await drive.keep(self.trigger(name))

    async def run(self, broker: Broker | None = None) -> None:
        with anyio.fail_after(5):
            async with driver(self.course.buffer, patience=60.0) as drive:
                drive.committed = self.committed
                for name in self.watchers:
                    drive.hub.expect(name, self.trigger(name))
                async with anyio.create_task_group() as tasks:
                    for name in self.watchers:
                        tasks.start_soon(self.run_watcher, drive, name)
                    for count, pause in self.course.chunks:
                        await settle(pause)
                        before = self.world.items
                        self.world.add(count)
                        if broker is not None:
                            for number in range(before + 1, before + count + 1):
                                broker.publish(number, lane="ab"[number % 2])
                    self.world.close()
                    if broker is not None:
                        broker.close()


@settings(max_examples=150, deadline=None)
@given(course=courses, placed=st.booleans())
def test_each_subscriber_commits_in_order_what_its_filter_derives(course: Course, placed: bool) -> None:
    play = Play(course, Placed if placed else Numbers)
    anyio.run(play.run)
    assert {name: play.committed.get(name, []) for name in play.watchers} == {
        name: play.expected(name) for name in play.watchers
    }
    assert play.world.open_now == 0


@settings(max_examples=150, deadline=None)
@given(course=courses)
def test_nothing_is_acknowledged_before_each_subscriber_has_committed_it(course: Course) -> None:
    play = Play(course, Messages)
    broker = Messages.broker = Broker()
    breaks = set(course.source_fails_at)

    async def look(batch: Sequence[AdvanceItem]) -> None:
        for item in batch:
            number = item.receipt.number
            if number in breaks:
                breaks.discard(number)
                raise OSError(f"advancing {number} failed")
            wanted = [name for name in play.watchers if number in play.expected(name)]
            if item.verdict is Verdict.ACKNOWLEDGE:
                assert all(number in play.committed.get(name, []) for name in wanted)
            if item.verdict is Verdict.DEAD_LETTER:
                assert not wanted

    broker.on_advance = look
    anyio.run(play.run, broker)
    assert {name: sorted(play.committed.get(name, [])) for name in play.watchers} == {
        name: play.expected(name) for name in play.watchers
    }
    everything = {number for name in play.watchers for number in play.expected(name)}
    assert set(broker.acknowledged) == everything
    assert broker.open_now == 0
