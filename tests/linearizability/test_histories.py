"""Several processes on the same keys: what they saw could have happened one after the other, on either database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from asyncstore import MetastoreBackend
from tests.linearizability.checker import NotLinearizableError, check
from tests.linearizability.history import Kind, Operation, load

ROOT = Path(__file__).parents[2]
#: How many histories are recorded on each database; one, otherwise.
ROUNDS = int(os.environ.get("ASYNCSTORE_TEST_HISTORIES", "1"))
PROCESSES, TASKS, CALLS = 3, 5, 40
PATIENCE = 60
#: What a history holds some of, at least.
WANTED: list[tuple[Kind, str]] = [
    ("get", "done"),
    ("get", "absent"),
    ("get_entry", "done"),
    ("delete", "done"),
    ("set", "done"),
    ("set", "checked"),
    ("set", "refused"),
]


def record(url: str, seed: int, **options: object) -> list[Operation]:
    """Have processes work on a database at once; gives all they did."""
    with ExitStack() as stack:
        workers: list[subprocess.Popen[str]] = []
        for number in range(PROCESSES):
            arguments = [url, json.dumps(options), str(number), str(seed), str(TASKS), str(CALLS)]
            worker = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "tests.linearizability.worker", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
            stack.enter_context(worker)
            stack.callback(worker.kill)
            workers.append(worker)
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("\n")
            worker.stdin.flush()
        told = [worker.communicate(timeout=PATIENCE)[0] for worker in workers]
        assert [worker.returncode for worker in workers] == [0] * PROCESSES
    return [operation for text in told for operation in load(text.splitlines())]


def busiest(history: Sequence[Operation], key: str) -> int:
    """Tell how many calls about a key were on their way at the same moment at most."""
    known = [each for each in history if each.key == key and each.returned is not None]
    edges = sorted([(each.invoked, 1) for each in known] + [(each.returned or 0, -1) for each in known])
    most = now = 0
    for _, change in edges:
        now += change
        most = max(most, now)
    return most


def expect_all_kinds(history: Sequence[Operation]) -> None:
    """See that there was something to check: every outcome, and calls at the same time."""
    seen = Counter(
        (each.kind, "refused")
        if each.actual is not None
        else (each.kind, "lost")
        if each.returned is None
        else (each.kind, "checked")
        if each.if_version is not None
        else (each.kind, "done" if each.kind == "delete" or each.value is not None else "absent")
        for each in history
    )
    for kind in WANTED:
        assert seen[kind] >= 5, (kind, seen)
    for key in ("alone", "one", "two", "asset"):
        assert busiest(history, key) >= 3, key


def judge(history: list[Operation]) -> None:
    assert len(history) >= PROCESSES * TASKS * CALLS
    expect_all_kinds(history)
    check(history)
    # A version belongs to one write, of whatever key, and is what later writes of the key go beyond.
    versions = [each.version for each in history if each.kind == "set" and each.version is not None]
    assert len(versions) == len(set(versions)), "a version was given twice"


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_on_sqlite(tmp_path: Path, seed: int) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/store.db"
    with MetastoreBackend(url):
        pass
    judge(record(url, seed, durability="normal", lock_timeout=30.0))


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_on_postgresql(database_url: str, seed: int) -> None:
    judge(record(database_url, seed))


def test_one_wrong_answer_among_all_of_them_is_seen(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/store.db"
    with MetastoreBackend(url):
        pass
    history = record(url, 1, durability="normal", lock_timeout=30.0)
    history.sort(key=lambda each: each.invoked)
    check(history)
    for wrong in (stale_read, lost_update, false_conflict):
        with pytest.raises(NotLinearizableError):
            check(wrong(history))


def stale_read(history: Sequence[Operation]) -> list[Operation]:
    """Have a late read see an early value."""
    early = next(each for each in history if each.kind == "set" and each.version is not None)
    return [*history, _after(history, early, kind="get", value=early.value)]


def lost_update(history: Sequence[Operation]) -> list[Operation]:
    """Have a write succeed that was checked against an early version."""
    early = next(each for each in history if each.kind == "set" and each.version is not None)
    return [*history, _after(history, early, kind="set", value="new", version=10**9, if_version=early.version)]


def false_conflict(history: Sequence[Operation]) -> list[Operation]:
    """Have a write be refused because of a version that is long gone."""
    early = next(each for each in history if each.kind == "set" and each.version is not None)
    return [*history, _after(history, early, kind="set", value="new", if_version=10**9, actual=early.version)]


def _after(history: Sequence[Operation], early: Operation, **facts: object) -> Operation:
    end = max(each.returned or 0 for each in history)
    return Operation(**{"key": early.key, "invoked": end + 1, "returned": end + 2, **facts})  # type: ignore[arg-type]
