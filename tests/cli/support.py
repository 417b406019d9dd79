"""Calling the program, in this process or as one of its own, and the data it works on."""

from __future__ import annotations

import fcntl
import inspect
import io
import os
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, TextIO

import pytest
from click.testing import CliRunner

from asyncstore import Asset, Event, ManualClock, TaskScope, connect
from asyncstore.cli import main

ROOT = Path(__file__).parents[2]
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
URL = "sqlite+aiosqlite:///asyncstore.db"
# Warnings are errors here too; click's runner gives stderr apart by itself since 8.2.
PROGRAM = [sys.executable, "-W", "error", "-m", "asyncstore"]
# As it is installed: the working directory is not on the path of modules.
SCRIPT = [sys.executable, "-W", "error", str(Path(sys.executable).parent / "asyncstore")]
_APART: dict[str, Any] = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


def call(*args: str) -> Done:
    result = CliRunner(**_APART).invoke(main, args, prog_name="asyncstore")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


@contextmanager
def terminal(columns: int, answer: str, encoding: str) -> Generator[tuple[TextIO, list[bytes]]]:
    """Give a stream to a terminal that is so wide, and what came out of it once it is closed."""
    near, far = os.openpty()
    fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    mode = termios.tcgetattr(far)
    mode[1] &= ~termios.OPOST
    mode[3] &= ~termios.ECHO
    termios.tcsetattr(far, termios.TCSANOW, mode)
    told: list[bytes] = []

    def read() -> None:
        with suppress(OSError):  # Linux's word for the end of it
            while more := os.read(near, 65536):
                told.append(more)

    reading = threading.Thread(target=read)
    reading.start()
    os.write(near, answer.encode())
    with open(far, "r+b", buffering=0) as raw, io.TextIOWrapper(raw, encoding=encoding, write_through=True) as stream:
        yield stream, told
    reading.join()
    os.close(near)


def on_terminal(
    monkeypatch: pytest.MonkeyPatch, *args: str, columns: int = 80, answer: str = "", encoding: str = "utf-8"
) -> Done:
    """Call the program with a terminal as stdin and stdout, in this process."""
    err = io.StringIO()
    code: object = None
    with monkeypatch.context() as patch, terminal(columns, answer, encoding) as (stream, told):
        patch.delenv("COLUMNS", raising=False)
        patch.setattr(sys, "stdin", stream)
        patch.setattr(sys, "stdout", stream)
        patch.setattr(sys, "stderr", err)
        try:
            main(args, prog_name="asyncstore")
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int)
    return Done(code, b"".join(told).decode(encoding), err.getvalue())


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


@contextmanager
def start(
    *args: str,
    program: Sequence[str] = PROGRAM,
    env: Mapping[str, str] | None = None,
    stdout: int | IO[bytes] = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
) -> Generator[subprocess.Popen[bytes]]:
    """Run the program; kill it if the test ends before it."""
    process = subprocess.Popen(
        [*program, *args], env=environment(**(env or {})), stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
    )
    with process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def spawn(*args: str, **options: Any) -> Done:
    with start(*args, **options) as process:
        out, err = process.communicate(timeout=60)
    return Done(process.returncode, (out or b"").decode(), (err or b"").decode())


def expire(scope: TaskScope, *keys: str) -> None:
    """Leave keys of a task in the database that expired in 2020."""
    with connect(URL, clock=ManualClock(LONG_AGO)) as store:
        store.task_state(scope).set_many(dict.fromkeys(keys, 1), retention=timedelta(seconds=1))


def keep(scope: TaskScope, *keys: str) -> None:
    with connect(URL) as store:
        store.task_state(scope).set_many(dict.fromkeys(keys, 1))


def kept(scope: TaskScope) -> list[str]:
    """List the keys of a task, expired ones that are still in the database among them."""
    with connect(URL, clock=ManualClock(LONG_AGO)) as store:
        return store.task_state(scope).keys()


async def record(asset: Asset, payloads: Sequence[Any], *, key: str | None = None) -> list[Event]:
    """Record events as a watcher does."""
    async with connect(URL) as store:
        watcher = await store.aclaim_watcher(asset, "scan", owner="tests")
        commits = [await watcher.prepare(payload, key, None) for payload in payloads]
        return [(await watcher.acommit(commit))[0] for commit in commits]
