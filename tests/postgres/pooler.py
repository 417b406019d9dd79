"""PgBouncer in front of a server, as many services have it."""

from __future__ import annotations

import shutil
import socket
import subprocess
from contextlib import suppress
from typing import Self

from sqlalchemy.engine import make_url

from tests.postgres.processes import PATIENCE, give_away, guard, kill_tree, make_folder, spawn, until
from tests.postgres.server import HOST, free_port


def find_pgbouncer() -> str | None:
    """Give the path of the program, which no Python package carries."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin:/usr/local/bin")


class Pooler:
    """PgBouncer that gives out a server's connections for the length of a transaction; `with` runs it.

    :param url: A URL of the server to lead to; its user is everybody's.
    :param pool_size: How many connections to each database of the server there are at most.
    """

    def __init__(self, url: str, *, pool_size: int = 2, settings: dict[str, str | int] | None = None) -> None:
        self.server = make_url(url)
        self.port = free_port()
        self.folder = make_folder()
        self.settings: dict[str, str | int] = {
            "listen_addr": HOST,
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": "transaction",
            "default_pool_size": pool_size,
            "max_client_conn": 100,
            **(settings or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def url(self, database: str) -> str:
        """Give the URL of a database by this way."""
        url = self.server.set(host=HOST, port=self.port, database=database)
        return url.render_as_string(hide_password=False)

    def through(self, url: str) -> str:
        """Lead the URL of a database of the server by this way."""
        database = make_url(url).database
        assert database is not None, url
        return self.url(database)

    def log_text(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start, and wait until connections are taken."""
        program = find_pgbouncer()
        assert program is not None, "pgbouncer is not installed"
        file = self.folder / "pgbouncer.ini"
        file.write_text(self._configuration())
        file.chmod(0o600)
        give_away(file)
        self._process = spawn([program, file], self.folder)
        until(self._is_ready, "pgbouncer to start")

    def stop(self) -> None:
        """End at once; clients lose their connections."""
        if self._process is not None:
            kill_tree(self._process.pid)
            self._process.wait(PATIENCE)
            guard().discard(pid=self._process.pid)
            self._process = None

    def close(self) -> None:
        """End, and delete the folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        guard().discard(folder=str(self.folder))

    def _configuration(self) -> str:
        server = {
            "host": self.server.host,
            "port": self.server.port or 5432,
            "user": self.server.username,
            "password": self.server.password,
        }
        target = " ".join(f"{key}='{value}'" for key, value in server.items() if value is not None)
        settings = "".join(f"{key} = {value}\n" for key, value in self.settings.items())
        return f"[databases]\n* = {target}\n[pgbouncer]\n{settings}"

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"pgbouncer did not start:\n{self.log_text()[-2000:]}")
        with socket.socket() as probe, suppress(OSError):
            probe.connect((HOST, self.port))
            return True
        return False
