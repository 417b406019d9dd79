"""A folder watcher is killed with SIGKILL, again and again; the log must hold every version of every file once."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from asyncstore import connect

ROOT = Path(__file__).parents[2]
Version = tuple[str, int, int]

pytestmark = pytest.mark.crash


def write(path: Path, text: str) -> Version:
    path.write_text(text)
    facts = path.stat()
    return path.name, facts.st_size, facts.st_mtime_ns


def told(database: Path) -> Counter[Version]:
    with connect(f"sqlite+aiosqlite:///{database}") as store:
        payloads: list[Any] = [event.payload for event in store.events().list()]
    return Counter((payload["path"], payload["size"], payload["mtime_ns"]) for payload in payloads)


def judge(database: Path, expected: list[Version]) -> tuple[list[Version], list[Version]]:
    """Give the versions that the log misses, and those that it holds more than once."""
    counts = told(database)
    assert set(counts) <= set(expected)
    return [each for each in expected if each not in counts], [each for each, count in counts.items() if count > 1]


def child(*arguments: str, cwd: Path) -> int:
    command = [sys.executable, "-W", "error", "-m", "tests.crash.child", *arguments]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=environ, timeout=60, check=False).returncode


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def test_killed_at_random_moments_it_misses_none_and_doubles_none(tmp_path: Path, inbox: Path) -> None:
    chance = random.Random(20261121)
    expected = [write(inbox / f"file {number}", "x" * (number % 50)) for number in range(3000)]
    command = [sys.executable, "-m", "asyncstore", "--database", f"sqlite+aiosqlite:///{tmp_path}/asyncstore.db"]
    command += ["watch", str(inbox), "--settle", "0", "--interval", "0.05"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    printed: list[int] = []
    kills = 0
    while kills < 12:
        with subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=subprocess.PIPE) as watcher:
            assert watcher.stdout is not None
            lines = itertools.islice(watcher.stdout, chance.randrange(20, 300))
            printed += [json.loads(line)["id"] for line in lines]
            watcher.kill()
            kills += 1
        in_the_log = told(tmp_path / "asyncstore.db")
        for _ in range(20):  # the folder changes while nobody watches
            name = f"file {chance.randrange(3000)}"
            expected = [each for each in expected if each[0] != name or each in in_the_log]
            expected.append(write(inbox / name, "changed" * kills))
    done = subprocess.run([*command, "--once"], cwd=tmp_path, env=environ, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert judge(tmp_path / "asyncstore.db", expected) == ([], [])
    assert len(printed) == len(set(printed))


@pytest.mark.parametrize("how", ["before", "after"])
def test_killed_right_before_or_after_a_commit(tmp_path: Path, inbox: Path, how: str) -> None:
    database = tmp_path / "asyncstore.db"
    expected = [write(inbox / f"file {number}", "x") for number in range(6)]
    for at in range(1, 4):
        assert child(str(database), str(inbox), how, str(at), cwd=tmp_path) == -signal.SIGKILL
    assert child(str(database), str(inbox), "never", "0", cwd=tmp_path) == 0
    assert judge(database, expected) == ([], [])


@pytest.mark.parametrize(("how", "missing", "doubled"), [("checkpoint first", 1, 0), ("event first", 0, 1)])
def test_the_judgement_sees_what_two_commits_would_lose_or_double(
    tmp_path: Path, inbox: Path, how: str, missing: int, doubled: int
) -> None:
    database = tmp_path / "asyncstore.db"
    expected = [write(inbox / f"file {number}", "x") for number in range(6)]
    assert child(str(database), str(inbox), how, "3", cwd=tmp_path) == -signal.SIGKILL
    assert child(str(database), str(inbox), "never", "0", cwd=tmp_path) == 0
    found = judge(database, expected)
    assert (len(found[0]), len(found[1])) == (missing, doubled)
