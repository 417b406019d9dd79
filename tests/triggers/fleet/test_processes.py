"""Triggerers in processes, killed, frozen, stopped and joined; on SQLite and on PostgreSQL."""

from __future__ import annotations

import signal
import time
from collections import Counter

import pytest

from asyncstore import Store, StoreBusyError, TaskScope

from .support import LEASE, Fleet, Process, holders, judge, wait_until

pytestmark = pytest.mark.crash

NAMES = [f"asset {number}" for number in range(12)]


@pytest.fixture
def names() -> list[str]:
    return NAMES


def test_they_share_the_watchers_by_capacity_and_one_that_joins_gets_its_part(store: Store, fleet: Fleet) -> None:
    settings = {"lease": LEASE, "heartbeat_interval": 0.5, "block_warning": 0.0}
    fleet.start("a", settings={**settings, "capacity": 100})
    wait_until(lambda: holders(store) == Counter(a=12))
    fleet.start("b", settings={**settings, "capacity": 100})
    wait_until(lambda: holders(store) == Counter(a=6, b=6))
    fleet.start("c", settings={**settings, "capacity": 200})
    wait_until(lambda: holders(store) == Counter(a=3, b=3, c=6))
    for process in fleet.processes:
        process.send(signal.SIGTERM)
        assert process.wait() == 0
    judge(store, NAMES)
    assert holders(store) == Counter()


@pytest.mark.parametrize("anonymous", [True, False])
def test_one_that_is_killed_is_taken_over_within_its_lease(store: Store, fleet: Fleet, anonymous: bool) -> None:
    first, _ = fleet.start("a", anonymous=anonymous), fleet.start("b", anonymous=anonymous)
    wait_until(lambda: holders(store) == Counter(a=6, b=6))
    first.send(signal.SIGKILL)
    took = wait_until(lambda: holders(store) == Counter(b=12))
    assert took < LEASE + 1.5
    fleet.processes[1].send(signal.SIGTERM)
    assert fleet.processes[1].wait() == 0
    judge(store, NAMES)


def test_one_that_is_stopped_cleans_up_and_hands_over_at_once(store: Store, fleet: Fleet) -> None:
    first, second = fleet.start("a", anonymous=True), fleet.start("b", anonymous=True)
    wait_until(lambda: holders(store) == Counter(a=6, b=6))
    before = first.said("cleanup")  # of those that it gave away
    first.send(signal.SIGTERM)
    took = wait_until(lambda: holders(store) == Counter(b=12))
    assert first.wait() == 0
    assert first.said("cleanup") == before + 6
    assert first.said("on_kill") == 0
    assert took < LEASE
    second.send(signal.SIGTERM)
    assert second.wait() == 0
    judge(store, NAMES)


def freeze(store: Store, process: Process) -> None:
    """Freeze a process, on SQLite not inside a commit: there it holds the file, as is documented."""
    while True:
        process.send(signal.SIGSTOP)
        try:
            store.task_state(TaskScope("dag", "run", "task")).set("key", 1)
        except StoreBusyError:
            process.send(signal.SIGCONT)
            time.sleep(0.1)
        else:
            return


def test_one_that_is_frozen_past_its_lease_commits_nothing_when_it_wakes(store: Store, fleet: Fleet) -> None:
    first, second = fleet.start("a"), fleet.start("b")
    wait_until(lambda: holders(store) == Counter(a=6, b=6))
    for _ in range(2):
        freeze(store, first)
        wait_until(lambda: holders(store) == Counter(b=12))
        first.send(signal.SIGCONT)
        wait_until(lambda: holders(store) == Counter(a=6, b=6))  # it joined anew
    assert first.said("lease has run out") + first.said("lease was not renewed") + first.said("lease under which") >= 2
    for process in (first, second):
        process.send(signal.SIGTERM)
        assert process.wait() == 0
    judge(store, NAMES)


def test_clocks_may_be_an_hour_apart(request: pytest.FixtureRequest, url: str, store: Store, fleet: Fleet) -> None:
    if url.startswith("sqlite"):
        pytest.skip("on SQLite the clocks are those of one machine")
    fleet.start("a", skew=3600)
    fleet.start("b", skew=-3600)
    fleet.start("c")
    wait_until(lambda: holders(store) == Counter(a=4, b=4, c=4))
    fleet.processes[0].send(signal.SIGKILL)
    wait_until(lambda: holders(store) == Counter(b=6, c=6))
    for process in fleet.processes[1:]:
        process.send(signal.SIGTERM)
        assert process.wait() == 0
    judge(store, NAMES)
