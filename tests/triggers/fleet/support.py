"""Triggerers in processes of their own, and what they did."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from asyncstore import Asset, Store, WatcherRecord, WatcherState

__all__ = ["ENVIRON", "LEASE", "SETTINGS", "Fleet", "Process", "holders", "judge", "wait_until"]

ROOT = Path(__file__).parents[3]
LEASE = 3.0
ENVIRON = {**os.environ, "PYTHONPATH": str(ROOT)}
SETTINGS: dict[str, Any] = {
    **{"lease": LEASE, "heartbeat_interval": 0.5, "restart_delay": 0.05, "restart_delay_max": 0.1},
    **{"drain_timeout": 5.0, "block_warning": 0.0},
}


class Process:
    """One triggerer."""

    def __init__(self, url: str, folder: Path, owner: str, names: Sequence[str], options: dict[str, Any]) -> None:
        self.owner = owner
        self.log = folder / f"{owner}.log"
        given = {"owner": owner, "names": list(names), "settings": SETTINGS, **options}
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "tests.triggers.fleet.child", url, json.dumps(given)],
                env=ENVIRON,
                stdout=log,
                stderr=log,
            )

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end."""
        return self._process.wait(30)

    def said(self, text: str) -> int:
        """Count how often it said something."""
        return self.log.read_text().count(text)

    def close(self) -> None:
        """Kill it, if it runs."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
        self._process.wait(30)


class Fleet:
    """Several triggerers on one database."""

    def __init__(self, url: str, folder: Path, names: Sequence[str]) -> None:
        self._url = url
        self._folder = folder
        self._names = names
        self.processes: list[Process] = []

    def start(self, owner: str, **options: Any) -> Process:
        """Start a triggerer."""
        process = Process(self._url, self._folder, owner, options.pop("names", self._names), options)
        self.processes.append(process)
        return process

    @classmethod
    @contextmanager
    def open(cls, url: str, folder: Path, names: Sequence[str]) -> Generator[Fleet]:
        """Kill what is left in the end, and show what it said where the test fails."""
        fleet = cls(url, folder, names)
        try:
            yield fleet
        except BaseException:
            for process in fleet.processes:
                print(f"--- {process.owner}\n{process.log.read_text()[-3000:]}")
            raise
        finally:
            for process in fleet.processes:
                process.close()


def holders(store: Store) -> Counter[str]:
    """Count who runs how many watchers."""
    running: list[WatcherRecord] = [each for each in store.list_watchers() if each.lease_age is not None]
    assert all(each.state is WatcherState.RUNNING for each in running)
    return Counter(each.owner for each in running)


def wait_until(condition: Callable[[], object], seconds: float = 30.0) -> float:
    """Wait for a condition; gives how long it took."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > seconds:
            pytest.fail(f"not within {seconds} s")
        time.sleep(0.02)
    return time.monotonic() - started


def judge(store: Store, names: Sequence[str], *, least: int = 1) -> None:
    """Hold every watcher to one event for each number, in order, and the watermark to the last one."""
    counts: dict[str, list[int]] = {name: [] for name in names}
    for event in store.events().list():
        assert isinstance(event.payload, int)
        counts[event.asset].append(event.payload)
    for name, numbers in counts.items():
        assert numbers == list(range(1, len(numbers) + 1)), name
        assert len(numbers) >= least, name
        assert store.asset_state[Asset(name)].get("watermark") == len(numbers)
