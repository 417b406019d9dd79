"""A job runner outside of the worker: it has a table of its own in a SQLite file, and each job is a process.

The runner is a process too, started by the test, so that jobs outlive the workers that submit them. The test may open
or close its gate: jobs are started at once and end when it is open.

usage: external.py FOLDER
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

_TABLE = """
CREATE TABLE job (
  id INTEGER PRIMARY KEY, token TEXT NOT NULL, once TEXT UNIQUE, state TEXT NOT NULL DEFAULT 'queued', output TEXT
)"""
#: Waits until its input ends, then fails where it is told to, or says its number.
_WORK = 'read -r _; [ "$1" -gt "$2" ] && echo "rows of $1"'


class External:
    """The client's side of the runner.

    :param folder: where the runner keeps its table.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / "runner.db"

    @contextmanager
    def _table(self) -> Generator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._file, timeout=30)) as connection, connection:
            yield connection

    def submit(self, token: str, *, honour: bool = True) -> int:
        """Queue a job, or find the one that has the token."""
        with self._table() as table:
            once = token if honour else None
            table.execute("INSERT INTO job (token, once) VALUES (?, ?) ON CONFLICT DO NOTHING", (token, once))
            (found,) = table.execute("SELECT max(id) FROM job WHERE token = ?", (token,)).fetchone()
            return int(found)

    def state(self, job_id: int) -> str:
        """Give `queued`, `running`, `succeeded` or `failed`."""
        with self._table() as table:
            return str(table.execute("SELECT state FROM job WHERE id = ?", (job_id,)).fetchone()[0])

    def output(self, job_id: int) -> str:
        """Give what a job printed."""
        with self._table() as table:
            return str(table.execute("SELECT output FROM job WHERE id = ?", (job_id,)).fetchone()[0])

    def count(self) -> int:
        """Give how many jobs there are."""
        with self._table() as table:
            return int(table.execute("SELECT count(*) FROM job").fetchone()[0])

    def empty(self) -> None:
        """Forget every job, once it is over."""
        self.open_gate()
        while True:
            with self._table() as table:
                if not table.execute("SELECT 1 FROM job WHERE state IN ('queued', 'running')").fetchone():
                    table.execute("DELETE FROM job")
                    break
            time.sleep(0.01)
        (self.folder / "gate").unlink()

    def open_gate(self) -> None:
        """Have jobs end."""
        (self.folder / "gate").touch()

    def fail(self, first: int) -> None:
        """Have the first so many jobs fail."""
        (self.folder / "fail").write_text(str(first))

    # The runner's side.

    def create(self) -> None:
        with self._table() as table:
            table.execute("PRAGMA journal_mode = WAL")
            table.execute(_TABLE)
        self.fail(0)

    def serve(self) -> None:
        running: dict[int, subprocess.Popen[str]] = {}
        with closing(sqlite3.connect(self._file, timeout=30, isolation_level=None)) as table:
            while True:
                for (job_id,) in table.execute("SELECT id FROM job WHERE state = 'queued'").fetchall():
                    running[job_id] = self._start(job_id)
                    table.execute("UPDATE job SET state = 'running' WHERE id = ?", (job_id,))
                if running and (self.folder / "gate").exists():
                    for job_id, process in running.items():
                        done = (process.communicate()[0].strip(), process.returncode, job_id)
                        text = "UPDATE job SET output = ?, state = iif(?, 'failed', 'succeeded') WHERE id = ?"
                        table.execute(text, done)
                    running.clear()
                time.sleep(0.01)

    def _start(self, job_id: int) -> subprocess.Popen[str]:
        fail = (self.folder / "fail").read_text()
        command = ["sh", "-c", _WORK, "job", str(job_id), fail]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@contextmanager
def serving(folder: Path) -> Generator[External]:
    """Run a runner in a process of its own."""
    runner = External(folder)
    runner.create()
    with subprocess.Popen([sys.executable, "-S", __file__, str(folder)]) as process:
        try:
            yield runner
        finally:
            process.kill()


if __name__ == "__main__":
    External(Path(sys.argv[1])).serve()
