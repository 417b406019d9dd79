from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks.contenders import airflow
from benchmarks.contenders.abc import Contender, PlainContender
from benchmarks.measuring.data import TEXTS, keys_of, shuffled
from benchmarks.measuring.loop import Kind, PlainOperation, Sample, closed_loop, plain_loop
from benchmarks.measuring.rounds import Plan, interleave
from benchmarks.measuring.spread import Spread, ratios
from benchmarks.options import parse
from benchmarks.progress import Progress
from benchmarks.report.axis import Axis
from benchmarks.report.markdown import markdown
from benchmarks.report.model import Chart, Line, SectionReport, Verdict
from benchmarks.report.svg import draw


def test_the_loop_keeps_so_many_operations_under_way() -> None:
    now = most = 0

    async def operation(key: str, number: int) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1

    sample = asyncio.run(closed_loop(operation, keys_of(3), 5, 0.01))
    assert (now, most) == (0, 5)
    assert sample.p50 <= sample.p90 <= sample.p99 <= sample.worst


def test_two_loops_write_different_values_to_a_key() -> None:
    numbers: list[int] = []
    for _ in range(5):
        before = len(numbers)
        plain_loop(lambda key, number: numbers.append(number), ["key"], 0.001)
        assert numbers[before:] == list(range(numbers[before], numbers[before] + len(numbers) - before))
        numbers[before + 1 :] = []
    assert len({number % len(TEXTS) for number in numbers}) > 1


def test_an_operation_that_raises_ends_the_loop() -> None:
    def operation(key: str, number: int) -> None:
        raise OSError("away")

    with pytest.raises(OSError, match="away"):
        plain_loop(operation, ["key"], 1.0)


def test_keys_are_the_same_in_every_run_and_in_no_order() -> None:
    keys = shuffled(1000)
    assert keys == shuffled(1000)
    assert sorted(keys) == keys_of(1000) != keys


def sample(rate: float) -> Sample:
    return Sample(int(rate), 1.0, 1e-3, 2e-3, 3e-3, 4e-3)


def test_ratios_are_taken_round_by_round() -> None:
    slow, fast = [sample(10), sample(100), sample(1000)], [sample(20), sample(200), sample(4000)]
    assert ratios(fast, slow) == Spread(2.0, 2.0, 4.0)
    assert ratios([], slow) is None


class Fake(PlainContender):
    def __init__(self, name: str, log: list[str], fails_after: int = 1000) -> None:
        super().__init__(name, ["key"])
        self.log = log
        self.left = fails_after
        self.is_open = False

    def open(self) -> None:
        self.is_open = True
        self._operations: Mapping[Kind, PlainOperation] = {"get": self.work, "set": self.work}

    def close(self) -> None:
        self.is_open = False

    def measure(self, kind: Kind, level: int, seconds: float) -> Sample:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("broken\nin two lines")
        self.log.append(f"{self.name} {kind} {level}")
        return sample(1)

    def work(self, key: str, number: int) -> None:
        raise AssertionError("not called")


def test_contenders_take_turns_within_a_round() -> None:
    log: list[str] = []
    contenders: list[Contender] = [Fake("a", log), Fake("b", log)]
    measured = interleave(contenders, Plan(("get",), (1, 4), 2, 0.0), Progress("test"))
    warm_up = 4
    first = ["a get 1", "b get 1", "a get 4", "b get 4"]
    second = ["b get 1", "a get 1", "b get 4", "a get 4"]
    assert log[warm_up:] == first + second
    assert len(measured.of("a", "get", 4)) == 2


def test_a_contender_that_fails_is_left_out_and_closed() -> None:
    log: list[str] = []
    good, bad = Fake("good", log), Fake("bad", log, fails_after=3)
    measured = interleave([bad, good], Plan(("get",), (1,), 3, 0.0), Progress("test"))
    assert measured.failures == {"bad": "RuntimeError: broken"}
    assert len(measured.of("good", "get", 1)) == 3
    assert len(measured.of("bad", "get", 1)) == 1
    assert not good.is_open
    assert not bad.is_open


@pytest.mark.parametrize(("found", "at_least", "met"), [(0.9, True, True), (0.89, True, False), (0.91, False, False)])
def test_a_verdict_compares_the_median(found: float, at_least: bool, met: bool) -> None:
    assert Verdict("x", "1", Spread(found, 0.0, 9.0), 0.9, at_least).met is met


def test_a_target_without_figures_is_neither_met_nor_missed() -> None:
    report = SectionReport("x", verdicts=[Verdict("what", "16", None, 2.0), Verdict("what", "1", sample_spread(), 1.0)])
    text = markdown({"Python": "3"}, ["quiet"], [report])
    assert "1 of 1 met" in text
    assert "| what | 1.50 (1.00 to 2.00), ≥ 1: met | not measured (≥ 2) |" in text


def sample_spread() -> Spread:
    return Spread(1.5, 1.0, 2.0)


@pytest.mark.parametrize(("low", "high"), [(3, 4), (1, 1), (0.2, 9e6), (100, 1000), (99, 101)])
def test_an_axis_has_round_ends_around_its_values(low: float, high: float) -> None:
    axis = Axis.rounded(low, high, 0, 100)
    assert axis.low <= low <= high <= axis.high
    assert 0 <= axis(low) <= axis(high) <= 100
    assert 2 <= len(axis.ticks) <= 12


def test_names_of_lines_that_end_together_do_not_overlap() -> None:
    lines = [Line(f"line {number}", [(1.0, sample_spread()), (2.0, sample_spread())]) for number in range(9)]
    text = draw(Chart("c", "t", "x", "y", lines))
    heights = [float(part.split('y="')[1].split('"')[0]) for part in text.splitlines() if ">line " in part]
    assert len(heights) == 9
    assert all(second - first >= 15.9 for first, second in itertools.pairwise(heights))


def test_text_in_a_chart_is_escaped() -> None:
    text = draw(Chart("c", 'a "<b>" & c', "x", "y", [Line("<d>", [(1.0, sample_spread())])]))
    assert "<b>" not in text
    assert "<d>" not in text


def test_quick_and_full_choose_sizes_and_options_win() -> None:
    assert parse([]).growth_rows == (10_000, 1_000_000)
    assert parse(["--full"]).growth_rows[-1] == 10_000_000
    assert parse(["--quick", "--rounds", "7"]).rounds == 7
    assert parse(["--only", "sync", "--only", "idle"]).only == ("sync", "idle")


def test_where_airflow_cannot_be_installed_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "inside"))
    (tmp_path / "file").touch()
    with pytest.raises(airflow.AirflowMissingError, match="no environment could be made"):
        airflow.environment(Progress("test"))
