"""The tutorial as a person does it: files are saved and commands typed into one shell, in the order of the page.

usage: python -m tests.docs.tutorial
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sysconfig
import tempfile
import termios
import tty
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.docs.pages import DOCS, ROOT, Block, blocks_of

__all__ = ["PAGE", "follow"]

PAGE = DOCS / "tutorial/index.md"
_END = "--- ended with"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# Stands for the installation: what is imported here can be imported in the environment that the tutorial makes.
_PIP = f"""
pip() {{
  printf '%s\\n' '{ROOT}' '{sysconfig.get_path("purelib")}' '{sysconfig.get_path("platlib")}' \\
    > "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/here.pth"
  printf '#!/bin/sh\\nexec python -m asyncstore "$@"\\n' > .venv/bin/asyncstore
  chmod +x .venv/bin/asyncstore
}}
"""


@dataclass(slots=True)
class Shell:
    """Be a shell that commands are typed into.

    :param typing: where to type.
    :param shown: what is printed.
    """

    typing: IO[str]
    shown: IO[str]

    def type(self, commands: str) -> str:
        """Type commands, and give what was shown until the last one ended."""
        self.typing.write(f'{commands}\necho "{_END} $?"\n')
        self.typing.flush()
        text = ""
        for line in self.shown:
            if line.startswith(_END):
                assert line.split()[-1] == "0", f"{commands}\n{text}\n{line}"
                return text
            text += _COLOUR.sub("", line)
        raise AssertionError(f"the shell ended in\n{commands}\n{text}")


@contextmanager
def _shell(home: Path) -> Generator[Shell]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("ASYNCSTORE", "PYTHON"))}
    with (
        _terminal() as (screen, shown),
        (home / "stderr").open("w") as errors,
        subprocess.Popen(
            ["bash", "--norc"],
            cwd=ROOT,
            env={**environ, "HOME": str(home), "TERM": "xterm"},
            stdin=subprocess.PIPE,
            stdout=screen,
            stderr=errors,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        assert process.stdin is not None
        try:
            yield Shell(process.stdin, shown)
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def _terminal() -> Generator[tuple[int, IO[str]]]:
    """Give a terminal of 24 lines of 100 columns, and what it shows."""
    master, screen = pty.openpty()
    try:
        tty.setraw(screen)
        fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        with os.fdopen(master, encoding="utf-8") as shown:
            yield screen, shown
    finally:
        os.close(screen)


def _save(folder: Path, block: Block) -> None:
    first = block.text.partition("\n")[0]
    assert re.fullmatch(r"# [\w.]+", first), f"{block.where}: a file begins with its name, not with {first!r}"
    (folder / first.removeprefix("# ")).write_text(block.text)


def _says(told: str, shown: str) -> bool:
    # … stands for anything; how far apart columns are depends on what is in them.
    told, shown = (re.sub(" +", " ", text) for text in (told, shown))
    return re.fullmatch(".*".join(re.escape(part) for part in told.split("…")), shown, re.DOTALL) is not None


def follow(home: Path, *, install: bool) -> list[str]:
    """Do the tutorial.

    :param home: stands for the home directory.
    :param install: install the package with pip, as the page says; else what is here is made importable.
    :return: what was compared, by place.
    :raises AssertionError: something did not go as the page says.
    """
    compared: list[str] = []
    with _shell(home) as shell:
        if not install:
            shell.type(_PIP)
        shown = ""
        for block in blocks_of(PAGE):
            if block.language == "sh":
                shown = shell.type(block.text)
            elif block.language == "text":
                assert _says(block.text, shown), f"{block.where}: shown was\n{shown}\n{(home / 'stderr').read_text()}"
                compared.append(block.where)
            else:
                _save(home / "orders", block)
    return compared


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        print(len(follow(Path(name), install=True)), "outputs are as the tutorial says")
