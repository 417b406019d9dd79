"""Processes that begin with everything imported: copies of one that has done nothing else yet.

A story that kills a process at each of its steps has dozens of them, most of whose life would be spent on imports.

usage: forking.py MODULE...
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Forks:
    """Ask for processes; each calls `main(*arguments)` of a module, which gives its return code.

    :param process: this module as a program.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, module: str, *arguments: object, cwd: Path) -> tuple[int, str]:
        """Run a process to its end; gives its return code, negative for the signal that killed it, and its output."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = [module, [str(each) for each in arguments], str(cwd)]
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        code, output = json.loads(self._process.stdout.readline())
        return code, output


@contextmanager
def forking(*modules: str) -> Generator[Forks]:
    """Start the process that the others are copies of.

    :param modules: what it imports.
    """
    command = [sys.executable, "-W", "error", "-m", __name__, *modules]
    # What is committed outlives the process without a sync of the disk, which would be most of the time.
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "ASYNCSTORE__DATABASE__DURABILITY": "normal"}
    with subprocess.Popen(
        command, env=environ, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Forks(process)
        finally:
            process.kill()


def _child(module: str, arguments: list[str], cwd: str) -> int:
    os.chdir(cwd)
    try:
        return int(importlib.import_module(module).main(*arguments))
    except BaseException:
        traceback.print_exc()
        return 1


def _fork(*asked: Any) -> tuple[int, str]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writing, 1)
        code = _child(*asked)
        sys.stdout.flush()
        os._exit(code)
    os.close(writing)
    with open(reading) as output:
        text = output.read()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), text.strip()


def serve(*modules: str) -> None:
    for module in modules:
        importlib.import_module(module)
    for line in sys.stdin:
        print(json.dumps(_fork(*json.loads(line))), flush=True)


if __name__ == "__main__":
    serve(*sys.argv[1:])
