"""The test kit for those who write watchers: a clock that jumps, a recorder, and crashes at every `await`.

::

    def test_numbers_survive_every_crash():
        crash_everywhere_sync(lambda: Numbers(upto=3), expected=[1, 2, 3]).check()

`VirtualEventLoop` runs a test on virtual time, `run_watcher` runs one watcher and records what it does, and
`crash_everywhere` kills it at every `await` in turn. Nothing here needs pytest.
"""

from __future__ import annotations

from .clock import VirtualClock
from .crashes import (
    CrashOptions,
    CrashOutcome,
    CrashPoint,
    CrashReport,
    Fault,
    Place,
    Verdict,
    crash_everywhere,
    crash_everywhere_sync,
)
from .following import follow_time
from .loop import ClockStalledError, VirtualEventLoop, run_virtual, virtual_clock
from .recording import RecordedCommit, Recording, StateWrite, WatcherFailure
from .watching import Watching, memory_store, run_watcher

__all__ = [
    "ClockStalledError",
    "CrashOptions",
    "CrashOutcome",
    "CrashPoint",
    "CrashReport",
    "Fault",
    "Place",
    "RecordedCommit",
    "Recording",
    "StateWrite",
    "Verdict",
    "VirtualClock",
    "VirtualEventLoop",
    "WatcherFailure",
    "Watching",
    "crash_everywhere",
    "crash_everywhere_sync",
    "follow_time",
    "memory_store",
    "run_virtual",
    "run_watcher",
    "virtual_clock",
]
