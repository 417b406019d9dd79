"""Crashes at every await: right watchers pass, and a mistake is found, and named with its line."""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio
import pytest

from asyncstore import Asset, Store
from triggers import AssetWatcher, BaseEventTrigger, BaseTrigger, InvalidTriggerError, Triggerer, TriggerEvent
from triggers.testing import CrashReport, Fault, crash_everywhere, crash_everywhere_sync, run_virtual
from triggers.testing.crashes import life

from .watchers import (
    Backwards,
    Batches,
    Checkpointed,
    Clocks,
    Endless,
    Fails,
    Forgetful,
    Keyed,
    OneTooMany,
    WritesAfter,
    WritesBefore,
)


def line_of(kind: type[BaseTrigger], text: str) -> str:
    lines, first = inspect.getsourcelines(kind)
    return f"watchers.py:{first + next(n for n, line in enumerate(lines) if text in line)}"


def places(report: CrashReport) -> set[str]:
    """Give the lines at which a crash did harm."""
    return {str(each.point.place).split("  ")[0] for each in report.failures if each.point is not None}


@pytest.mark.parametrize("kind", [Checkpointed, Keyed, Fails, Endless])
@pytest.mark.parametrize("expect", [True, False])
def test_right_watchers_lose_nothing_and_double_nothing(kind: type[BaseTrigger], expect: bool) -> None:
    upto = 4 if kind in {Checkpointed, Endless} else 3
    options: dict[str, Any] = {"expected": range(1, upto + 1)} if expect else {}
    if kind is Endless:
        options["take"] = 4
    report = crash_everywhere_sync(kind, **options)
    report.check()
    assert (report.ok, report.lost, report.doubled, report.unexpected, report.out_of_order) == (True, [], [], [], [])
    assert report.expected == tuple(range(1, upto + 1))
    assert len(report.points) > 3 * upto
    assert not report.cut_short
    assert f"{upto} events, none lost, none doubled" in str(report)


def test_a_write_before_the_yield_loses() -> None:
    report = crash_everywhere_sync(WritesBefore)
    assert (report.lost, report.doubled) == ([1, 2, 3], [])
    write, event = line_of(WritesBefore, "aset"), line_of(WritesBefore, "yield")
    assert places(report) == {write, event}
    with pytest.raises(AssertionError) as raised:
        report.check()
    assert (
        f"killed at {write}  `await self.asset_state.aset(\"watermark\", at)`, a write of 'watermark' by itself: made"
        in str(raised.value)
    )
    assert (
        f'likely: {write}  `await self.asset_state.aset("watermark", at)` is committed by itself, before the event'
        in str(raised.value)
    )


def test_a_write_after_the_yield_doubles() -> None:
    report = crash_everywhere_sync(WritesAfter)
    assert (report.lost, report.doubled) == ([], [1, 2, 3])
    write, event = line_of(WritesAfter, "aset"), line_of(WritesAfter, "yield")
    assert places(report) == {write, event}
    assert re.search(rf"killed at {event} .*the commit of the event: made, its answer on the way", str(report))
    assert re.search(rf"killed at {event} .*not yet resumed", str(report))
    assert (
        f'likely: {write}  `await self.asset_state.aset("watermark", at)` is committed by itself, after the event'
        in str(report)
    )


def test_a_watermark_that_is_told_again_doubles() -> None:
    report = crash_everywhere_sync(OneTooMany)
    assert (report.lost, report.doubled) == ([], [1, 2, 3])
    assert "likely: it was committed with its checkpoint of 'watermark', and told again from there" in str(report)
    calm = report.failures[0]
    assert (calm.point, calm.verdict.doubled) == (None, (3,))  # it needs no crash, only a restart


def test_memory_alone_doubles() -> None:
    report = crash_everywhere_sync(Forgetful)
    assert (report.lost, report.doubled) == ([], [1, 2, 3])
    assert report.expected == (1, 2, 3)
    assert "likely: nothing in the state tells that the event was told" in str(report)


def test_a_watermark_ahead_of_its_batch_loses_the_rest() -> None:
    report = crash_everywhere_sync(Batches)
    assert (report.lost, report.doubled) == ([2, 4], [])
    assert places(report) == {line_of(Batches, "yield")}
    assert "likely: the watcher moved its watermark past an event that it had not yielded yet" in str(report)


def test_the_order_counts_unless_it_does_not() -> None:
    report = crash_everywhere_sync(Backwards)
    assert (report.lost, report.doubled, report.out_of_order) == ([], [], [1, 2])
    assert "out of order 2, 1" in str(report)
    assert crash_everywhere_sync(Backwards, ordered=False).ok


def test_what_nobody_expected_and_what_never_comes_is_told() -> None:
    report = crash_everywhere_sync(Keyed, expected=[1, 2, "never"])
    assert (report.lost, report.unexpected) == (["never"], [3])
    assert all(not each.ok for each in report.outcomes)
    assert crash_everywhere_sync(Keyed, expected=[1, 2], optional=[3]).ok
    assert crash_everywhere_sync(Keyed, expected=[101, 102, 103], identify=lambda number: number % 100).ok


def test_a_second_crash_comes_at_the_points_of_the_restart() -> None:
    report = crash_everywhere_sync(Checkpointed, again=range(1, 4))
    report.check()
    twice = [each for each in report.outcomes if each.again is not None]
    assert len(twice) > 2 * len([each for each in report.outcomes if each.again is None]) - 10
    assert crash_everywhere_sync(WritesAfter, again=[3]).doubled == [1, 2, 3]


@pytest.mark.parametrize("fault", [Fault.BUSY, Fault.UNKNOWN_LOST, Fault.UNKNOWN_MADE])
def test_errors_of_the_database_lose_and_double_nothing_of_a_right_watcher(fault: Fault) -> None:
    for kind in (Checkpointed, Keyed):
        report = crash_everywhere_sync(kind, faults=[fault])
        report.check()
        assert len(report.points) >= len(report.expected)
        assert {each.fault for each in report.outcomes[1:]} == {fault}


def test_an_unknown_outcome_doubles_what_has_no_checkpoint() -> None:
    report = crash_everywhere_sync(WritesAfter, faults=[Fault.UNKNOWN_MADE])
    assert report.doubled == [1, 2, 3]
    assert f"outcome unknown, made at {line_of(WritesAfter, 'yield')}" in str(report)
    report = crash_everywhere_sync(WritesAfter, faults=[Fault.UNKNOWN_LOST])
    assert report.doubled == [1, 2, 3]
    assert places(report) == {line_of(WritesAfter, "aset")}  # that an event was not made harms nobody
    assert "run() raised OutcomeUnknownError" in str(report)


def test_hundreds_of_crashes_are_no_matter() -> None:
    report = crash_everywhere_sync(lambda: Checkpointed(upto=40))
    report.check()
    assert len(report.points) > 160


def test_two_reports_are_alike() -> None:
    first, second = (str(crash_everywhere_sync(WritesAfter)) for _ in range(2))
    assert first == second


def test_patience_does_not_keep_a_crash_from_coming() -> None:
    report = crash_everywhere_sync(Checkpointed, idle=20)
    report.check()
    assert len(report.points) == len(crash_everywhere_sync(Checkpointed).points)


def test_what_ends_a_run_too_early_is_told() -> None:
    report = crash_everywhere_sync(Checkpointed, expected=[1, 2, 3, 4], quiet=1800.0)
    assert "nothing came any more (quiet); see `idle` and `quiet`" in str(report)


def test_a_watcher_that_cannot_be_made_leaves_nothing_behind() -> None:
    with pytest.raises(ZeroDivisionError):
        crash_everywhere_sync(lambda: Checkpointed(upto=1 // 0))


def test_the_limit_is_told() -> None:
    report = crash_everywhere_sync(Checkpointed, limit=5)
    assert report.cut_short
    assert [point.number for point in report.points] == [1, 2, 3, 4, 5]
    assert "there are more points than the limit" in str(report)
    assert repr(report) == "<CrashReport: 5 crashes, 0 bad>"


def test_a_source_without_end_needs_a_number() -> None:
    with pytest.raises(ValueError, match="take=100"):
        crash_everywhere_sync(Endless)


def test_a_watcher_with_a_name_of_an_asset_with_a_uri() -> None:
    asset = Asset("numbers", "s3://numbers")
    crash_everywhere_sync(lambda: AssetWatcher("count", Checkpointed()), asset=asset, limit=4).check()


def test_its_own_clocks_are_virtual() -> None:
    crash_everywhere_sync(Clocks, expected=[[3600.0] * 6 + [True]], limit=1).check()


def test_it_can_be_awaited_in_virtual_time() -> None:
    async def main() -> None:
        assert (await crash_everywhere(WritesBefore)).lost == [1, 2, 3]
        assert anyio.current_time() == 0

    run_virtual(main)


class Heartbeats:
    """A triggerer that beats, and stays when its watchers are done."""

    def __init__(self, store: Store, assets: Sequence[Asset], *, begin_anew: bool) -> None:
        self._inner = Triggerer(store, assets, begin_anew=begin_anew)
        self._store = store
        self._stop = anyio.Event()

    def stop(self) -> None:
        self._inner.stop()
        self._stop.set()

    async def run(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._inner.run)
            while not self._stop.is_set():
                with anyio.move_on_after(5):
                    await self._stop.wait()
                await self._store.alist_watchers()


def test_a_triggerer_that_stays_makes_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    before = crash_everywhere_sync(WritesAfter)
    monkeypatch.setattr(life, "Triggerer", Heartbeats)
    after = crash_everywhere_sync(WritesAfter)
    assert (after.doubled, places(after)) == (before.doubled, places(before))
    assert [str(point) for point in after.points] == [str(point) for point in before.points]
    crash_everywhere_sync(Checkpointed).check()


def test_what_cannot_be_run_is_refused() -> None:
    class NoGenerator(BaseEventTrigger):
        async def run(self) -> Any:  # type: ignore[override]
            return None

    with pytest.raises(InvalidTriggerError, match="no async generator"):
        crash_everywhere_sync(NoGenerator)


@pytest.mark.filterwarnings("ignore::asyncstore.BlockingCallWarning")
def test_sync_calls_are_no_awaits_and_work() -> None:
    class Sync(BaseEventTrigger):
        async def run(self) -> AsyncIterator[TriggerEvent]:
            at = self.asset_state.get("watermark", 0)
            while at < 3:
                at += 1
                self.asset_state.set("seen", at)
                yield TriggerEvent(at, checkpoint={"watermark": at})

    report = crash_everywhere_sync(Sync, expected=[1, 2, 3])
    report.check()
    assert not any("seen" in str(point) for point in report.points)


@pytest.mark.anyio
async def test_it_can_be_awaited_and_cancelled() -> None:
    assert (await crash_everywhere(WritesBefore)).lost == [1, 2, 3]
    with anyio.move_on_after(0.05) as scope:
        await crash_everywhere(lambda: Checkpointed(upto=1000))
    assert scope.cancelled_caught
    with pytest.raises(RuntimeError, match="await crash_everywhere"):
        crash_everywhere_sync(WritesBefore)
