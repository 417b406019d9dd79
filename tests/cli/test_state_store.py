from __future__ import annotations

import fcntl
import os
import re
import signal
from pathlib import Path

import pytest

from asyncstore import Asset, AssetScope, ManualClock, TaskScope, connect
from tests.cli.support import LONG_AGO, URL, call, expire, keep, kept, spawn, start

LOAD = TaskScope("etl", "run 1", "load")
MAPPED = TaskScope("etl", "run 2", "split", 3)
CLEANUP = ["state-store", "cleanup-task-store"]
BATCHES = "ASYNCSTORE__STATE_STORE__STATE_CLEANUP_BATCH_SIZE"
FOUR = "".join(f"    async def {name}(self, *a, **k): ...\n" for name in ("aget", "aset", "adelete", "aclear"))


def backend(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str = "", before: str = "") -> None:
    """Configure a backend of the user's own."""
    head = "import asyncio, sys\nfrom asyncstore import BaseStoreBackend, Capability, CleanupReport\n"
    (folder / "own_backend.py").write_text(f"{head}{before}class Own(BaseStoreBackend):\n{FOUR}{body}")
    monkeypatch.setenv("ASYNCSTORE__STATE_STORE__BACKEND", "own_backend.Own")


# Expired task state


def test_a_dry_run_lists_the_rows_and_deletes_none() -> None:
    expire(LOAD, "job_id", "water mark")
    expire(MAPPED, "part")
    keep(LOAD, "fresh")
    done = spawn(*CLEANUP, "--dry-run")
    assert (done.code, done.err) == (0, "")
    first, *rows = done.out.splitlines()
    assert first == "Would delete 3 task state row(s):"
    assert sorted(rows) == [
        'dag=etl run="run 1" task=load map_index=-1 key="water mark"',
        'dag=etl run="run 1" task=load map_index=-1 key=job_id',
        'dag=etl run="run 2" task=split map_index=3 key=part',
    ]
    assert kept(LOAD) == ["fresh", "job_id", "water mark"]


def test_a_verbose_dry_run_says_since_when_the_rows_are_expired() -> None:
    expire(LOAD, "a")
    done = call(*CLEANUP, "--dry-run", "--verbose")
    assert done.out.splitlines()[1].endswith(" key=a expired=2020-01-01T00:00:01Z")


def test_a_dry_run_lists_pages_under_one_heading() -> None:
    expire(LOAD, *(f"key-{n:04}" for n in range(2500)))
    lines = call(*CLEANUP, "--dry-run").out.splitlines()
    assert lines[0] == "Would delete 2500 task state row(s):"
    assert [line.rpartition("=")[2] for line in lines[1:]] == [f"key-{n:04}" for n in range(2500)]


@pytest.mark.parametrize("batch", ["0", "2"])
def test_with_nothing_expired_a_dry_run_says_so(batch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BATCHES, batch)
    keep(LOAD, "fresh")
    assert call(*CLEANUP, "--dry-run").out == "Nothing to delete.\n"
    assert call(*CLEANUP).out == "Deleted 0 task state row(s).\n"


@pytest.mark.parametrize("batch", ["0", "1", "2", "3", "100"])
def test_a_real_run_deletes_exactly_the_expired_rows(batch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BATCHES, batch)
    expire(LOAD, "a", "b")
    expire(MAPPED, "c")
    keep(LOAD, "fresh")
    done = call(*CLEANUP)
    assert (done.code, done.out, done.err) == (0, "Deleted 3 task state row(s).\n", "")
    assert (kept(LOAD), kept(MAPPED)) == (["fresh"], [])


def test_the_older_spelling_is_accepted_but_not_listed() -> None:
    expire(LOAD, "a")
    assert call("state-store", "cleanup-task-states", "--dry-run").out.startswith("Would delete 1 task")
    assert call("state-store", "cleanup-task-states").out == "Deleted 1 task state row(s).\n"
    listed = call("state-store", "--help").out
    assert "cleanup-task-store" in listed
    assert "cleanup-task-states" not in listed


def test_verbose_tells_of_each_batch_on_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BATCHES, "2")
    expire(LOAD, "a", "b", "c")
    done = call(*CLEANUP, "--verbose")
    assert done.out == "Deleted 3 task state row(s).\n"
    assert done.err == "deleted 2 of 3\ndeleted 3 of 3\n"


def test_long_work_shows_a_bar_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BATCHES, "1")
    for env, shown in (({}, True), ({"TERM": "dumb"}, False)):
        expire(LOAD, *"abcde")
        terminal, stderr = os.openpty()
        with start(*CLEANUP, stderr=stderr, env=env) as process:
            os.close(stderr)
            told = b""
            try:
                while more := os.read(terminal, 4096):
                    told += more
            except OSError:
                pass
            os.close(terminal)
            assert process.stdout is not None
            assert process.stdout.read() == b"Deleted 5 task state row(s).\n"
        assert process.returncode == 0
        assert (b"Deleting expired rows" in told, b"40%" in told and b"100%" in told) == (shown, shown)
        assert told or not shown


def test_an_error_in_the_middle_is_one_line(folder: Path) -> None:
    expire(LOAD, "a")
    (folder / "asyncstore.db").write_bytes(b"overwritten by something else, and no database any more" * 99)
    done = spawn(*CLEANUP)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: the database file ")
    assert done.err.count("\n") == 1


# Ctrl-C


def test_ctrl_c_ends_it_between_two_batches_and_says_how_many_went(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BATCHES, "1")
    keys = [f"key-{n:04}" for n in range(3000)]
    expire(LOAD, *keys)
    reader, writer = os.pipe()
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    # What --verbose tells fills the pipe, so the program is still at work when the signal comes.
    with start(*CLEANUP, "--verbose", stderr=writer) as process, os.fdopen(reader, "rb") as stderr:
        os.close(writer)
        assert stderr.readline() == b"deleted 1 of 3000\n"
        process.send_signal(signal.SIGINT)
        told = stderr.read().decode()
        assert process.stdout is not None
        assert process.stdout.read() == b""
    assert process.returncode == 130
    match = re.search(r"^interrupted: (\d+) task state row\(s\) were deleted and stay so\n\Z", told, re.MULTILINE)
    assert match is not None, told[-500:]
    assert "Traceback" not in told
    assert 0 < int(match[1]) < 3000
    assert len(kept(LOAD)) == 3000 - int(match[1])


@pytest.mark.parametrize("counts", [True, False])
def test_ctrl_c_ends_a_backend_that_does_not_listen(
    counts: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleanup = "    async def acleanup(self, **options):\n        print('at work', file=sys.stderr, flush=True)\n"
    cleanup += "        await asyncio.Event().wait()\n"
    declared = "    capabilities = Capability.CLEANUP\n" if counts else ""
    backend(folder, monkeypatch, declared + cleanup)
    with start(*CLEANUP) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"at work\n"
        process.send_signal(signal.SIGINT)
        if counts:
            assert process.stderr.readline().startswith(b"stopping after the batch in hand")
            process.send_signal(signal.SIGINT)
        assert process.stderr.read() == b"interrupted\n"
    assert process.returncode == 130


# Backends of the user's own


@pytest.mark.parametrize(
    ("body", "told", "dry"),
    [
        ("", "Skipped: Own has no cleanup of its own", "Skipped: Own has no cleanup of its own"),
        (
            "    def cleanup(self):\n        return 4\n",
            "Deleted 4 task state row(s).",
            "Skipped: the cleanup of Own cannot be tried without deleting",
        ),
        (
            "    async def acleanup(self):\n        pass\n",
            "Own cleaned up; it does not say how many rows went.",
            "Skipped: the cleanup of Own cannot be tried without deleting",
        ),
        (
            """    capabilities = Capability.CLEANUP
    async def acleanup(self, *, dry_run, **options):
        return CleanupReport('Own', 2, dry_run)
""",
            "Deleted 2 task state row(s).",
            "Would delete 2 task state row(s).",
        ),
    ],
)
def test_a_backends_own_cleanup_runs_and_one_without_is_skipped_by_name(
    body: str, told: str, dry: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend(folder, monkeypatch, body)
    done = spawn(*CLEANUP)
    assert (done.code, done.out, done.err) == (0, f"{told}\n", "")
    done = spawn(*CLEANUP, "--dry-run")
    assert (done.code, done.out, done.err) == (0, f"{dry}\n", "")


def test_a_cleanup_that_raises_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend(folder, monkeypatch, "    async def acleanup(self):\n        raise OSError('gone')\n")
    done = spawn(*CLEANUP)
    assert (done.code, done.out) == (1, "")
    assert done.err == "error: OSError: gone (`asyncstore --debug ...` shows where)\n"


# The sweep


def rest(asset: Asset, *keys: str, clock: ManualClock | None = None) -> None:
    with connect(URL, clock=clock) as store:
        for key in keys:
            store.asset_state[asset].set(key, 1)
        store.deactivate(asset)


def test_the_sweep_takes_the_state_of_assets_deactivated_long_ago() -> None:
    old, recent = Asset("old orders"), Asset("recent")
    rest(old, "a", "b", clock=ManualClock(LONG_AGO))
    rest(recent, "c")
    tried = spawn("state-store", "sweep-assets", "--dry-run")
    assert (tried.code, tried.err) == (0, "")
    assert tried.out == 'Would delete 2 state row(s) of 1 deactivated asset(s):\nasset="old orders"\n'
    done = call("state-store", "sweep-assets")
    assert done.out == 'Deleted 2 state row(s) of 1 deactivated asset(s):\nasset="old orders"\n'
    with connect(URL) as store:
        for asset in (old, recent):
            store.activate(AssetScope(name=asset.name))
        assert store.asset_state[old].keys() == []
        assert store.asset_state[recent].keys() == ["c"]


@pytest.mark.parametrize("args", [[], ["--dry-run"]])
def test_a_sweep_without_anything_to_do_says_so(args: list[str]) -> None:
    rest(Asset("recent"), "c")
    assert call("state-store", "sweep-assets", *args).out == "Nothing to delete.\n"


def test_a_backend_that_deactivates_no_assets_is_skipped_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend(folder, monkeypatch)
    done = spawn("state-store", "sweep-assets")
    assert (done.code, done.out, done.err) == (0, "Skipped: Own does not deactivate assets\n", "")


def test_objects_go_with_their_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ASYNCSTORE__WORKERS__STATE_BACKEND", "asyncstore.ObjectStorageBackend")
    monkeypatch.setenv("ASYNCSTORE__COMMON_IO__STATE_STORE_OBJECTSTORAGE_PATH", (tmp_path / "objects").as_uri())
    expire(LOAD, "job_id")
    lines = call(*CLEANUP, "--dry-run").out.splitlines()
    assert lines[0] == "Would delete 1 task state row(s):"
    assert lines[2].startswith("object=etl/run%201/load/-1/job_id/")
    assert lines[3:] == ["Would delete 1 object(s)."]
    assert call(*CLEANUP).out.splitlines() == ["Deleted 1 task state row(s).", "Deleted 1 object(s)."]
    assert call(*CLEANUP, "--dry-run").out == "Nothing to delete.\n"
