"""Processes that never outlive the tests: run as an ordinary user, and killed with all they started.

Run as a program this module is the guard: it reads what to look after from its standard input, and when that ends (also
because the tests were killed) it kills those processes and deletes those folders. It needs the standard library only.
"""

from __future__ import annotations

import atexit
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, cast

#: Seconds that something which must happen gets; only a failing test waits so long.
PATIENCE = 30.0

_LONGEST_SOCKET_PATH = 100
_SOCKET_NAME = "/.s.PGSQL.65535"


def until(condition: Callable[[], object], what: str, *, patience: float = PATIENCE, every: float = 0.01) -> None:
    """Wait for a condition.

    :raises TimeoutError: It did not come true; says what was waited for.
    """
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {patience} s in vain for {what}")
        time.sleep(every)


@cache
def account() -> pwd.struct_passwd | None:
    """Give the user to run servers as: none when we are an ordinary user ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("nobody", "daemon"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    return next(entry for entry in pwd.getpwall() if entry.pw_uid != 0)


def as_user() -> dict[str, Any]:
    """Give the options of `subprocess` for running as that user, in an environment of its own."""
    user = account()
    options: dict[str, Any] = {
        "env": {"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath)},
        "stdin": subprocess.DEVNULL,
    }
    return options if user is None else options | {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def make_folder() -> Path:
    """Make a folder that belongs to that user, with a path short enough for a Unix socket; it is deleted at the end."""
    for parent in (Path(tempfile.gettempdir()).resolve(), Path("/tmp")):
        fits = len(f"{parent}/pg-12345678{_SOCKET_NAME}") < _LONGEST_SOCKET_PATH
        if fits and (account() is None or all(p.stat().st_mode & stat.S_IXOTH for p in (parent, *parent.parents))):
            break
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir=parent))
    guard().add(folder=str(folder))
    give_away(folder)
    return folder


def give_away(path: Path) -> None:
    """Give a file or folder to the user that servers run as."""
    if user := account():
        os.chown(path, user.pw_uid, user.pw_gid)


class _Process(NamedTuple):
    parent: int
    state: str


def _processes() -> dict[int, _Process]:
    found: dict[int, _Process] = {}
    if Path("/proc/self/stat").exists():
        for file in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                # The name in parentheses may hold anything.
                state, parent = file.read_text(errors="replace").rpartition(")")[2].split()[:2]
                found[int(file.parent.name)] = _Process(int(parent), state)
    else:
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True)
        for line in listed.stdout.splitlines():
            pid, parent, state = line.split()
            found[int(pid)] = _Process(int(parent), state[0])
    return found


def descendants(pid: int) -> list[int]:
    """Give the processes that a process started, and those that they started."""
    processes = _processes()
    found = [pid]
    for parent in found:
        found += [child for child, process in processes.items() if process.parent == parent]
    return found[1:]


def is_alive(pid: int) -> bool:
    process = _processes().get(pid)
    return process is not None and process.state != "Z"


def signal_tree(pid: int, number: signal.Signals) -> list[int]:
    """Send a signal to a process and then to all it started; gives them."""
    pids: list[int] = []
    for target in [pid, *descendants(pid)]:
        with suppress(ProcessLookupError):
            os.kill(target, number)
            pids.append(target)
    return pids


def kill_tree(pid: int) -> None:
    """Kill a process and all it started, and wait for their ends; the first is for its parent to reap."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)  # so that it starts no more
    pids = signal_tree(pid, signal.SIGKILL)
    until(lambda: not any(map(is_alive, pids)), f"the end of {pids}")


def spawn(command: list[str | Path], folder: Path) -> subprocess.Popen[bytes]:
    """Start a server in a folder, as that user; it appends to the file `log` there, and is guarded."""
    with (folder / "log").open("ab") as log:
        process = cast(
            "subprocess.Popen[bytes]",
            subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=folder,
                start_new_session=True,  # Ctrl-C is for the tests, which then end it
                **as_user(),
            ),
        )
    guard().add(pid=process.pid)
    return process


class Guard:
    """A process that ends what it was told of when this process ends, however that happens."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is not for it
            cwd="/",
        )
        assert self._process.stdin is not None
        self._stdin = self._process.stdin
        os.register_at_fork(after_in_child=self._forget)
        atexit.register(self._close)
        self._owner = os.getpid()

    def _forget(self) -> None:
        with suppress(OSError):
            os.close(self._stdin.fileno())  # the guard waits for the last to close it

    def _close(self) -> None:
        if os.getpid() == self._owner:
            self._stdin.close()
            self._process.wait(PATIENCE)

    def add(self, *, pid: int | None = None, folder: str | None = None) -> None:
        self._tell({"add": [pid, folder]})

    def discard(self, *, pid: int | None = None, folder: str | None = None) -> None:
        self._tell({"discard": [pid, folder]})

    def _tell(self, order: dict[str, object]) -> None:
        self._stdin.write(json.dumps(order).encode() + b"\n")
        self._stdin.flush()


@cache
def guard() -> Guard:
    """Give the guard of this process; starts it the first time."""
    return Guard()


def _watch() -> None:
    charges: list[list[Any]] = []
    for line in sys.stdin:
        order = json.loads(line)
        if "add" in order:
            charges.append(order["add"])
        elif order["discard"] in charges:
            charges.remove(order["discard"])
    for pid, _ in charges:
        if pid is not None:
            with suppress(OSError):
                kill_tree(pid)
    for _, folder in charges:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _watch()
