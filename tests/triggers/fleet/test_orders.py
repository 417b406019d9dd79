"""What people ask of watchers, by the command line, while triggerers run them in processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from asyncstore import Store, WatcherState

from .support import ENVIRON, Fleet, holders, judge, wait_until

pytestmark = pytest.mark.crash

NAMES = ["a", "b"]


@pytest.fixture
def names() -> list[str]:
    return NAMES


def triggers(url: str, *arguments: str, code: int = 0) -> str:
    command = [sys.executable, "-m", "asyncstore", "--database", url, "triggers", *arguments]
    done = subprocess.run(command, env=ENVIRON, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if code == 0 else done.stderr


def states(store: Store) -> dict[str, WatcherState]:
    return {each.asset: each.state for each in store.list_watchers()}


def test_a_watcher_is_paused_resumed_restarted_and_killed(url: str, store: Store, fleet: Fleet) -> None:
    process = fleet.start("one")
    wait_until(lambda: holders(store) == Counter(one=2))
    assert "is to be paused; one runs it" in triggers(url, "pause", "a", "count")
    wait_until(lambda: states(store) == {"a": WatcherState.PAUSED, "b": WatcherState.RUNNING})
    assert process.said("cleanup a") == 1
    assert triggers(url, "pause", "a") == "watcher 'count' of asset 'a' is paused\n"
    quiet = len([each for each in store.events().list() if each.asset == "a"])
    assert triggers(url, "resume", "a") == "watcher 'count' of asset 'a' is waiting\n"
    wait_until(lambda: holders(store) == Counter(one=2))
    wait_until(lambda: len([each for each in store.events().list() if each.asset == "a"]) > quiet)

    assert "is to be restarted" in triggers(url, "restart", "b")
    wait_until(lambda: process.said("cleanup b") == 1)
    assert process.said("on_kill") == 0
    assert "is to be killed" in triggers(url, "kill", "b")
    wait_until(lambda: states(store)["b"] is WatcherState.KILLED)
    assert (process.said("on_kill b"), process.said("cleanup b")) == (1, 2)
    assert "is killed, and cannot be resumed; a restart runs it again" in triggers(url, "resume", "b", code=1)
    assert triggers(url, "restart", "b") == "watcher 'count' of asset 'b' is waiting\n"
    wait_until(lambda: holders(store) == Counter(one=2))

    process.send(signal.SIGTERM)
    assert process.wait() == 0
    assert process.said("on_kill") == 1
    judge(store, NAMES)


def test_list_and_show_tell_what_runs(url: str, store: Store, fleet: Fleet) -> None:
    fleet.start("one")
    wait_until(lambda: holders(store) == Counter(one=2))
    wait_until(lambda: len(store.events().list()) > 4)
    rows = [line.split("\t") for line in triggers(url, "list").splitlines()]
    assert [row[:5] for row in rows] == [["a", "count", "running", "-", "one"], ["b", "count", "running", "-", "one"]]
    shown: dict[str, Any] = json.loads(triggers(url, "show", "a", "--json"))
    assert (shown["state"], shown["owner"], shown["asked"], shown["restarts"]) == ("running", "one", None, 0)
    assert 0 <= shown["lease_age"] < 5
    assert shown["events_per_minute"] >= 2
    assert 0 <= shown["without_progress"] < 5
    assert shown["last_error"] is None
    assert "state\trunning" in triggers(url, "show", "a")
    listed = [json.loads(line) for line in triggers(url, "list", "--json", "--state", "running").splitlines()]
    assert [each["asset"] for each in listed] == ["a", "b"]
    (one,) = [json.loads(line) for line in triggers(url, "triggerers", "--json").splitlines()]
    assert (one["owner"], one["running"], one["capacity"], one["draining"]) == ("one", 2, 10_000, False)
    assert "no asset" in triggers(url, "show", "nowhere", code=2).lower()
    assert "has no watcher 'other' (there are: 'count')" in triggers(url, "show", "a", "other", code=2)
