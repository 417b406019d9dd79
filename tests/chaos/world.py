"""What chaos happens to: a server, triggerers, consumers, a folder and a table that grow all the time."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg

from tests.postgres.proxy import Proxy
from tests.postgres.server import Server

from .watching import KINDS

__all__ = ["LEASE", "Process", "Sources", "World"]

ROOT = Path(__file__).parents[2]
LEASE = 3.0
_SETTINGS = {
    **{"lease": LEASE, "heartbeat_interval": 0.5, "restart_delay": 0.05, "restart_delay_max": 0.5},
    **{"drain_timeout": 3.0, "block_warning": 0.0},
}


class Process:
    """One process, which may be killed, frozen and stopped, and is started anew."""

    def __init__(self, name: str, log: Path, *command: str) -> None:
        self.name = name
        self._log = log
        self._command = [sys.executable, "-m", *command]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it; after `end`."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=log, stderr=log
            )

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        if self._process is not None:
            self._process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it, if need be with force."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(number)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def log_end(self) -> str:
        """Give the last lines of its log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])

    @property
    def runs(self) -> bool:
        """Tell whether it has not ended by itself."""
        return self._process is not None and self._process.poll() is None


class Sources(threading.Thread):
    """Adds rows and files, a little every now and then."""

    def __init__(self, url: str, folder: Path, seed: int) -> None:
        super().__init__(name="sources", daemon=True)
        self._url = url.replace("+asyncpg", "")
        self._folder = folder
        self._chance = random.Random(seed)
        self._ended = threading.Event()
        self._files = 0

    def run(self) -> None:
        """Add until `end`."""
        while not self._ended.wait(self._chance.uniform(0.02, 0.2)):
            for _ in range(self._chance.randrange(1, 4)):
                path = self._folder / f"file {self._files}"
                self._files += 1
                hidden = self._folder.parent / "being written"
                hidden.write_text("x" * self._chance.randrange(50))
                hidden.rename(path)
            kinds = [self._chance.randrange(KINDS) for _ in range(self._chance.randrange(1, 6))]
            with suppress(Exception):  # the source has its own troubles, in every form that its driver gives them
                asyncio.run(self._insert(kinds))

    async def _insert(self, kinds: list[int]) -> None:
        connection = await asyncpg.connect(self._url, timeout=5)
        try:
            # One writer, so that ids become visible in their order.
            await connection.executemany("INSERT INTO source (kind) VALUES ($1)", [(kind,) for kind in kinds])
        finally:
            connection.terminate()

    def end(self) -> None:
        """Add nothing more."""
        self._ended.set()
        self.join()


class World:
    """Everything, with what can go wrong.

    :param server: its own, for it is restarted.
    :param proxy: between the processes and the server.
    :param database: the name of the store's database.
    :param folder: for logs, and the folder that is watched.
    :param seed: of what goes wrong, and when.
    """

    def __init__(self, server: Server, proxy: Proxy, database: str, folder: Path, seed: int) -> None:
        self.server = server
        self.proxy = proxy
        self.database = database
        self.chance = random.Random(seed)
        self.faults: Counter[str] = Counter()
        self.inbox = folder / "inbox"
        self.inbox.mkdir()
        self.audits = folder / "audited"
        store, source = proxy.url(database), server.url(database)
        self.triggerers = [
            Process(
                f"triggerer {number}",
                folder / f"triggerer {number}.log",
                "tests.chaos.watching",
                *(store, source, str(self.inbox)),
                json.dumps({"owner": f"triggerer {number}", "settings": _SETTINGS}),
            )
            for number in range(3)
        ]
        consumers = [("loader", "-"), ("loader", "-"), ("audit", str(self.audits))]
        self.consumers = [
            Process(f"{name} {number}", folder / f"{name} {number}.log", "tests.chaos.consuming", store, name, out)
            for number, (name, out) in enumerate(consumers)
        ]
        self.sources = Sources(source, self.inbox, seed)
        self.sources.start()

    # Faults.

    def harm(self) -> None:
        """Do one harm, whichever comes."""
        kinds: dict[str, tuple[int, Any]] = {
            "triggerer killed": (4, lambda: self._kill(self.triggerers)),
            "triggerer frozen": (4, lambda: self._freeze(self.triggerers)),
            "triggerer stopped": (2, lambda: self._stop(self.triggerers)),
            "consumer killed": (3, lambda: self._kill(self.consumers)),
            "consumer frozen": (2, lambda: self._freeze(self.consumers)),
            "connections cut": (4, self._cut),
            "connections stalled": (2, self._stall),
            "server restarted": (1, lambda: self.server.restart("fast")),
            "server crashed": (1, lambda: self.server.restart("immediate")),
        }
        names = list(kinds)
        name = self.chance.choices(names, [kinds[each][0] for each in names])[0]
        kinds[name][1]()
        self.faults[name] += 1

    def _kill(self, processes: list[Process]) -> None:
        process = self.chance.choice(processes)
        process.end(signal.SIGKILL)
        self._rest(0.0, 1.5 * LEASE)
        process.start()

    def _stop(self, processes: list[Process]) -> None:
        process = self.chance.choice(processes)
        process.end(signal.SIGTERM)
        self._rest(0.0, 1.0)
        process.start()

    def _freeze(self, processes: list[Process]) -> None:
        process = self.chance.choice(processes)
        process.send(signal.SIGSTOP)
        self._rest(0.1, 2 * LEASE)
        process.send(signal.SIGCONT)

    def _cut(self) -> None:
        self.proxy.cut(self.chance.choice(["rst", "fin"]))

    def _stall(self) -> None:
        self.proxy.stall()
        self._rest(0.1, 1.5)
        self.proxy.resume()

    def _rest(self, least: float, most: float) -> None:
        time.sleep(self.chance.uniform(least, most))

    def close(self) -> None:
        """End everything."""
        self.sources.end()
        for process in (*self.triggerers, *self.consumers):
            process.end()
