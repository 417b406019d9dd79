"""A folder watcher is killed with SIGKILL, again and again; the log in PostgreSQL holds every version of a file."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from asyncstore import connect
from tests.crash.test_killed import ROOT, Version, write

pytestmark = pytest.mark.crash

FILES, KILLS = 2000, 8


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def told(url: str) -> Counter[Version]:
    with connect(url) as store:
        payloads: list[Any] = [event.payload for event in store.events().list()]
    return Counter((payload["path"], payload["size"], payload["mtime_ns"]) for payload in payloads)


def judge(url: str, expected: Sequence[Version]) -> tuple[list[Version], list[Version]]:
    """Give the versions that the log misses, and those that it holds more than once."""
    counts = told(url)
    assert set(counts) <= set(expected)
    return [each for each in expected if each not in counts], [each for each, count in counts.items() if count > 1]


def child(url: str, inbox: Path, how: str, at: int) -> int:
    command = [sys.executable, "-W", "error", "-m", "tests.postgres.crash_child", url, str(inbox), how, str(at)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=inbox.parent, env=environ, timeout=60, check=False).returncode


def test_killed_at_random_moments_it_misses_none_and_doubles_none(database_url: str, inbox: Path) -> None:
    chance = random.Random(20261121)
    expected = [write(inbox / f"file {number}", "x" * (number % 50)) for number in range(FILES)]
    command = [sys.executable, "-m", "asyncstore", "--database", database_url]
    command += ["watch", str(inbox), "--settle", "0", "--interval", "0.05"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    printed: list[int] = []
    for kills in range(1, KILLS + 1):
        with subprocess.Popen(command, cwd=inbox.parent, env=environ, stdout=subprocess.PIPE) as watcher:
            assert watcher.stdout is not None
            lines = itertools.islice(watcher.stdout, chance.randrange(20, 200))
            printed += [json.loads(line)["id"] for line in lines]
            watcher.kill()
        in_the_log = told(database_url)
        for _ in range(20):  # the folder changes while nobody watches
            name = f"file {chance.randrange(FILES)}"
            expected = [each for each in expected if each[0] != name or each in in_the_log]
            expected.append(write(inbox / name, "changed" * kills))
    assert len(printed) >= 20 * KILLS
    done = subprocess.run(
        [*command, "--once"], cwd=inbox.parent, env=environ, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert judge(database_url, expected) == ([], [])
    assert len(printed) == len(set(printed))


@pytest.mark.parametrize("how", ["before", "after"])
def test_killed_right_before_or_after_a_commit(database_url: str, inbox: Path, how: str) -> None:
    expected = [write(inbox / f"file {number}", "x") for number in range(6)]
    for at in range(1, 4):
        assert child(database_url, inbox, how, at) == -signal.SIGKILL
    assert child(database_url, inbox, "never", 0) == 0
    assert judge(database_url, expected) == ([], [])


@pytest.mark.parametrize(("how", "missing", "doubled"), [("checkpoint first", 1, 0), ("event first", 0, 1)])
def test_the_judgement_sees_what_two_commits_would_lose_or_double(
    database_url: str, inbox: Path, how: str, missing: int, doubled: int
) -> None:
    expected = [write(inbox / f"file {number}", "x") for number in range(6)]
    assert child(database_url, inbox, how, 3) == -signal.SIGKILL
    assert child(database_url, inbox, "never", 0) == 0
    found = judge(database_url, expected)
    assert (len(found[0]), len(found[1])) == (missing, doubled)
