"""Which process a triggerer is, so that another one on the same machine can tell when it is gone.

A lease would tell, too, only later. Nothing depends on it being right: who is taken for gone and is not loses its
watchers, and can commit nothing for them.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["is_gone", "this_process"]

_PROC = Path("/proc")


def _machine() -> str | None:
    # Processes see each other where they share a kernel since it was started, and a namespace of process ids.
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{(_PROC / 'self/ns/pid').stat().st_ino}"
    except OSError:  # not Linux
        return None


def _status(pid: int) -> list[str]:
    try:
        # Behind the name, which may have spaces and parentheses in it: from the 3rd field of proc_pid_stat(5) on.
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _started(pid: int) -> str | None:
    status = _status(pid)
    return status[19] if len(status) > 19 else None


def this_process() -> str | None:
    """Name this process; None where nobody could tell whether it is gone."""
    machine, started = _machine(), _started(os.getpid())
    return None if machine is None or started is None else f"{machine}/{os.getpid()}/{started}"


def is_gone(process: str | None) -> bool:
    """Tell whether a process was one of this machine and is there no more; in doubt it is there."""
    if process is None or (machine := _machine()) is None or not process.startswith(f"{machine}/"):
        return False
    try:
        pid, started = process.removeprefix(f"{machine}/").split("/")
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError):  # another user's, or no name of ours
        return False
    if _status(int(pid))[:1] in (["Z"], ["X"]):
        return True  # it has ended, and its parent has not looked yet
    now = _started(int(pid))
    return now is not None and now != started
