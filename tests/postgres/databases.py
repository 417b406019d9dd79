"""Databases of a server that runs already, made and dropped by its administrator."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from sqlalchemy.engine import make_url

from tests.postgres.client import LoopThread, connect
from tests.postgres.processes import until

#: Seconds that connections get to be gone once their owner has closed them.
CLOSING = 5.0


class Databases:
    """The databases of the server at a URL, whose user may make databases. All methods are sync, and block."""

    #: How a database is copied from its template; the faster way where data is not synced is another.
    strategy = "wal_log"

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self._templates: dict[str, str] = {}

    @cached_property
    def _thread(self) -> LoopThread:
        return LoopThread("postgres-admin")

    def url(
        self,
        database: str,
        *,
        user: str | None = None,
        password: str | None = None,
        host: str | None = None,
        port: int | None = None,
    ) -> str:
        """Give the URL of a database, by TCP; the user is the administrator unless named."""
        url = self._url.set(database=database, host=host, port=port)
        if user is not None:
            url = url.set(username=user)._replace(password=password)
        return url.render_as_string(hide_password=False)

    def fetch(self, query: str, *args: object, database: str | None = None) -> list[Mapping[str, Any]]:
        """Run a query as the administrator, on a connection of its own."""

        async def run() -> list[Mapping[str, Any]]:
            connection = await connect(self.url(database or self._url.database or "postgres"))
            try:
                return await connection.fetch(query, *args)
            finally:
                await connection.close()

        return self._thread.run(run())

    def create_database(self, name: str | None = None, *, template: str = "template1", owner: str | None = None) -> str:
        """Make a database, a copy of a template; gives its name, a new one unless named."""
        name = name or f"test_{secrets.token_hex(6)}"
        belonging = "" if owner is None else f' OWNER "{owner}"'
        self.fetch(f'CREATE DATABASE "{name}"{belonging} TEMPLATE "{template}" STRATEGY {self.strategy}')
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database, whoever uses it."""
        self.fetch(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def make_template(self, name: str, prepare: Callable[[str], object]) -> str:
        """Make a database to be copied, once for each name; `prepare` gets its URL, and must close what it opens.

        :return: The name of the database, for `create_database(template=...)`.
        """
        if name not in self._templates:
            database = self.create_database(f"template_{name}_{secrets.token_hex(3)}")
            prepare(self.url(database))
            self.expect_no_connections(database)
            self._templates[name] = database
        return self._templates[name]

    def connections(self, database: str) -> list[str]:
        """Describe the connections to a database: what each one does or did last."""
        return [
            f"{row['application_name'] or 'a connection'} (process {row['pid']}, {row['state']}): {row['query']}"
            for row in self.fetch(
                "SELECT pid, application_name, state, query FROM pg_stat_activity"
                " WHERE datname = $1 AND backend_type = 'client backend'",
                database,
            )
        ]

    def expect_no_connections(self, database: str) -> None:
        """Wait for the connections to a database to be gone.

        :raises AssertionError: One is still there; says what it did last.
        """
        left: list[str] = []

        def gone() -> bool:
            left[:] = self.connections(database)
            return not left

        try:
            until(gone, "connections to close", patience=CLOSING, every=0.03)
        except TimeoutError:
            raise AssertionError("connections were left open:\n" + "\n".join(left)) from None

    def close(self) -> None:
        """Drop the templates, and let go of the server."""
        while self._templates:
            self.drop_database(self._templates.popitem()[1])
        self.disconnect()

    def disconnect(self) -> None:
        """Let go of the server."""
        if "_thread" in self.__dict__:
            self._thread.close()
            del self._thread
