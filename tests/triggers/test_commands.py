"""The commands as a user calls them, each in a process of its own."""

from __future__ import annotations

import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from asyncstore import WatcherState, connect

ROOT = Path(__file__).parents[2]
ENVIRON = {**os.environ, "PYTHONPATH": str(ROOT)}
PROGRAM = [sys.executable, "-W", "error", "-m", "asyncstore"]
WITHIN = 30  # seconds, so that a hang is an error; the promise of five is for the machine of a user


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    for name in ("a.csv", "b.csv", "c.txt"):
        (folder / name).write_text(name)
    return folder


def call(cwd: Path, *arguments: str | bytes) -> subprocess.CompletedProcess[str]:
    command = [*PROGRAM, *arguments]
    return subprocess.run(command, cwd=cwd, env=ENVIRON, capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def started(cwd: Path, *arguments: str, **options: Any) -> Generator[subprocess.Popen[str]]:
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    with subprocess.Popen([*PROGRAM, *arguments], cwd=cwd, env=ENVIRON, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def lines(process: subprocess.Popen[str], count: int) -> list[dict[str, Any]]:
    assert process.stdout is not None
    return [json.loads(process.stdout.readline()) for _ in range(count)]


def logged(cwd: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in call(cwd, "events", "list").stdout.splitlines()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_watch_prints_what_it_committed_and_drains_on_a_signal(tmp_path: Path, inbox: Path, number: int) -> None:
    with started(tmp_path, "watch", "./inbox", "--settle", "0.1", "--interval", "0.05") as process:
        printed = lines(process, 3)
        (inbox / "d.csv").write_text("later")
        printed += lines(process, 1)
        process.send_signal(number)
        assert process.communicate(timeout=WITHIN) == ("", "")
        assert process.returncode == 0
    assert {event["payload"]["path"] for event in printed} == {"a.csv", "b.csv", "c.txt", "d.csv"}
    assert logged(tmp_path) == printed
    again = call(tmp_path, "watch", "inbox", "--settle", "0", "--once")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_watch_takes_its_options(tmp_path: Path, inbox: Path) -> None:
    (inbox / "sub").mkdir()
    (inbox / "sub/e.csv").touch()
    options = ["--settle", "0", "--once", "--pattern", "*.csv"]
    first = call(tmp_path, "watch", "inbox", *options)
    assert len(first.stdout.splitlines()) == 2
    second = call(tmp_path, "watch", "inbox", *options, "--recursive")
    assert [json.loads(line)["payload"]["path"] for line in second.stdout.splitlines()] == ["sub/e.csv"]
    other = call(tmp_path, "watch", *options, "--name", "other", "--new-only", inbox.as_uri())
    assert (other.returncode, other.stdout) == (0, "")
    (inbox / "a.csv").write_text("changed")
    assert call(tmp_path, "watch", "inbox", *options, "--created-only").stdout == ""


def test_watching_the_folder_of_the_database_does_not_feed_itself(tmp_path: Path, inbox: Path) -> None:
    done = call(inbox, "watch", ".", "--settle", "0", "--once", "--recursive")
    paths = {json.loads(line)["payload"]["path"] for line in done.stdout.splitlines()}
    assert paths == {"a.csv", "b.csv", "c.txt"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["missing"], "'missing' does not exist"),
        (["inbox/a.csv"], "is a file, not a folder"),
        (["inbox", "--settle", "-1"], "settle"),
        (["inbox", "--interval", "nan"], "interval"),
        (["inbox", "--settle", "soon"], "not a valid float"),
        (["--once"], "Missing argument 'SOURCE'"),
        (["ftp://host/inbox"], "nothing here watches ftp: sources; known are paths and "),
        (["file://elsewhere/inbox"], "names another machine"),
    ],
)
def test_watch_refuses_bad_input_before_anything_runs(
    tmp_path: Path, inbox: Path, arguments: list[str], says: str
) -> None:
    done = call(tmp_path, "watch", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unreadable_folder_is_refused(tmp_path: Path, inbox: Path) -> None:
    code = (
        "import os, sys; os.access = lambda *_, **__: False; "
        "sys.argv = ['asyncstore', 'watch', 'inbox']; from asyncstore.cli import main; main()"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRON, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "cannot be read; check its permissions" in done.stderr


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_second_watch_says_that_it_waits_and_takes_over_when_the_first_ends(
    tmp_path: Path, inbox: Path, end: signal.Signals
) -> None:
    options = ["inbox", "--settle", "0", "--interval", "0.05"]
    with ExitStack() as processes:
        first = processes.enter_context(started(tmp_path, "watch", *options))
        lines(first, 3)
        second = processes.enter_context(started(tmp_path, "watch", *options))
        assert second.stderr is not None
        assert "nothing to run here: 1 watchers" in second.stderr.readline()
        first.send_signal(end)
        first.wait(timeout=WITHIN)
        (inbox / "d").touch()
        assert [line["payload"]["path"] for line in lines(second, 1)] == ["d"]
        second.terminate()
        second.wait(timeout=WITHIN)
    assert len(logged(tmp_path)) == 4


def test_a_closed_stdout_ends_it_without_a_word(tmp_path: Path, inbox: Path) -> None:
    with started(tmp_path, "watch", "inbox", "--settle", "0", "--interval", "0.05") as process:
        assert process.stdout is not None
        lines(process, 3)
        process.stdout.close()
        for number in range(3):
            (inbox / f"late {number}").touch()
        assert process.wait(timeout=WITHIN) == 141
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_reader_that_stalls_does_not_hold_up_the_drain(tmp_path: Path, inbox: Path) -> None:
    for number in range(1500):
        (inbox / f"file {number} {'x' * 150}").touch()
    with started(tmp_path, "watch", "inbox", "--settle", "0") as process:
        lines(process, 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=WITHIN) == 0


def test_a_locked_database_does_not_hold_up_the_drain(tmp_path: Path, inbox: Path) -> None:
    with started(tmp_path, "watch", "inbox", "--settle", "0", "--interval", "0.05") as process:
        lines(process, 3)
        raw = sqlite3.connect(tmp_path / "asyncstore.db", isolation_level=None)
        raw.execute("BEGIN IMMEDIATE")
        (inbox / "d").touch()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=WITHIN) == 0
        raw.execute("ROLLBACK")
        raw.close()


def test_live_counts_are_for_terminals(tmp_path: Path, inbox: Path) -> None:
    ours, theirs = pty.openpty()
    with started(tmp_path, "watch", "inbox", "--settle", "0", "--once", stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 1000)
            except OSError:  # the terminal's other side is closed
                break
        assert process.wait(timeout=WITHIN) == 0
        assert len(lines(process, 3)) == 3
    os.close(ours)
    assert b"0 events, watching" in shown
    assert b"3 events in " in shown


def test_live_counts_leave_the_lines_of_events_alone_on_one_terminal(tmp_path: Path, inbox: Path) -> None:
    ours, theirs = pty.openpty()
    with started(tmp_path, "watch", "inbox", "--settle", "0", "--once", stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 1000)
            except OSError:  # the terminal's other side is closed
                break
        assert process.wait(timeout=WITHIN) == 0
    os.close(ours)
    first, *events, last = shown.removesuffix(b"\r\n").split(b"\r\n")
    assert b"0 events, watching" in first
    assert [json.loads(line)["payload"]["path"] for line in events] == ["a.csv", "b.csv", "c.txt"]
    assert b"3 events in " in last


ASSETS = """
from asyncstore import Asset
from triggers import AssetWatcher, BaseEventTrigger, TriggerEvent

class Count(BaseEventTrigger):
    def __init__(self, upto):
        self.upto = upto

    async def run(self):
        at = await self.asset_state.aget("at", 0)
        for number in range(at + 1, self.upto + 1):
            yield TriggerEvent(number, checkpoint={"at": number})

counts = Asset("counts", watchers=[AssetWatcher("w", Count(3))])
"""


def test_triggerer_runs_the_watchers_of_a_file_or_module(tmp_path: Path) -> None:
    (tmp_path / "my_assets.py").write_text(ASSETS)
    for target, says in (("my_assets.py", "watcher 'w' of asset 'counts' is done"), ("my_assets", "done already")):
        done = call(tmp_path, "triggerer", target)
        assert (done.returncode, done.stdout) == (0, "")
        assert says in done.stderr
    assert [event["payload"] for event in logged(tmp_path)] == [1, 2, 3]
    with connect(f"sqlite+aiosqlite:///{tmp_path}/asyncstore.db") as store:
        assert store.list_watchers()[0].state is WatcherState.DONE


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import nowhere_to_be_found", "cannot be imported: ModuleNotFoundError"),
        ("", "holds no asset with a watcher"),
        (ASSETS.replace("Count(3)", "Count({1})"), "argument 'upto' is not JSON"),
        (ASSETS.replace("yield TriggerEvent", "print"), "is no async generator"),
    ],
)
def test_triggerer_refuses_what_cannot_run_before_anything_runs(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "my_assets.py").write_text(text)
    done = call(tmp_path, "triggerer", "my_assets.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
