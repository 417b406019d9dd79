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
#: Waits for the gate, then fails where it is told to, or says its number.
_WORK = 'while [ ! -e "$1/gate" ]; do sleep 0.01; done; [ "$2" -gt "$3" ] && echo "rows of $2"'


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
        while True:
            with self._table() as table:
                for (job_id,) in table.execute("SELECT id FROM job WHERE state = 'queued'").fetchall():
                    fail = (self.folder / "fail").read_text()
                    command = ["sh", "-c", _WORK, "job", str(self.folder), str(job_id), fail]
                    running[job_id] = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
                    table.execute("UPDATE job SET state = 'running' WHERE id = ?", (job_id,))
                for job_id in [each for each, process in running.items() if process.poll() is not None]:
                    process = running.pop(job_id)
                    state = "failed" if process.returncode else "succeeded"
                    done = (state, process.communicate()[0].strip(), job_id)
                    table.execute("UPDATE job SET state = ?, output = ? WHERE id = ?", done)
            time.sleep(0.005)


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
