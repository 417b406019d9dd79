"""Airflow's metastore backend, called directly in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..measuring.loop import Kind, Sample
from ..progress import Progress
from .abc import Contender
from .ours import Scope

__all__ = ["VERSION", "Airflow", "AirflowMissingError", "environment"]

VERSION = "3.3.2"
_PACKAGES = (f"apache-airflow=={VERSION}", "asyncpg", "psycopg2-binary")
_ROOT = Path(__file__).parents[2]


class AirflowMissingError(Exception):
    """Airflow cannot be installed here; the text says why."""


def environment(progress: Progress) -> Path:
    """Make the environment in the user's cache folder, or find it there.

    :return: its Python.
    :raises AirflowMissingError: pip or venv failed.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = cache / "asyncstore-benchmarks" / f"airflow-{VERSION}-python{sys.version_info[0]}.{sys.version_info[1]}"
    python, ready = home / "bin" / "python", home / "ready"
    if ready.exists():
        return python
    progress.say(f"installing Airflow {VERSION} in {home}; takes a minute or two")
    try:
        venv.create(home, with_pip=True, clear=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise AirflowMissingError(f"no environment could be made: {error}") from error
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *_PACKAGES]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise AirflowMissingError(f"pip could not install it: {(errors or ['no reason given'])[-1]}")
    ready.touch()
    return python


class Airflow(Contender):
    """`await backend.aget(...)` and `await backend.aset(...)` of Airflow's `MetastoreBackend`, JSON text in and out.

    It runs in a process of its own, which stands still while others are measured.

    :param name: the name.
    :param keys: the keys; filled by the process.
    :param python: the Python of its environment.
    :param url: a database of its own, as SQLAlchemy's sync engine names it.
    :param folder: for its files.
    :param scope: whose state.
    """

    def __init__(self, name: str, keys: Sequence[str], *, python: Path, url: str, folder: Path, scope: Scope) -> None:
        super().__init__(name, keys)
        self._python = python
        self._url = url
        self._folder = folder
        self._scope: Scope = scope
        self._stack = ExitStack()
        self._process: subprocess.Popen[str] | None = None

    def open(self) -> None:
        """Start the process, which fills its tables."""
        self._folder.mkdir()
        log = self._stack.enter_context((self._folder / "log").open("w"))
        environment = {
            **os.environ,
            "PYTHONPATH": str(_ROOT),
            "AIRFLOW_HOME": str(self._folder),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self._url,
        }
        module = "benchmarks.contenders.airflow_worker"
        self._process = self._stack.enter_context(
            subprocess.Popen(
                [str(self._python), "-m", module, self._scope, str(len(self.keys))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
                cwd=self._folder,
            )
        )
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the process."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        self._stack.close()

    def measure(self, kind: Kind, level: int, seconds: float) -> Sample:
        """Let the process run the closed loop."""
        process = self._process
        if process is None or process.stdin is None:
            raise RuntimeError("not open")
        process.stdin.write(json.dumps({"kind": kind, "level": level, "seconds": seconds}) + "\n")
        process.stdin.flush()
        return Sample(**self._answer())

    def _answer(self) -> dict[str, Any]:
        process = self._process
        line = process.stdout.readline() if process is not None and process.stdout is not None else ""
        if not line:
            last = (self._folder / "log").read_text().strip().splitlines()[-1:]
            raise RuntimeError(f"its process ended: {last[0] if last else 'without a word'}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer
