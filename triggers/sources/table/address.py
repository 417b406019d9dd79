"""Where a database is: its URL made complete, and shown without anything secret."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from asyncstore.connections import connection_options, connection_variable

__all__ = ["Address", "resolve"]

#: The asynchronous drivers of each database; the first one that is installed is taken.
_DRIVERS = {
    "postgresql": ("asyncpg", "psycopg"),
    "mysql": ("asyncmy", "aiomysql"),
    "mariadb": ("asyncmy", "aiomysql"),
    "mssql": ("aioodbc",),
    "oracle": ("oracledb",),
}
#: SQLite is asked in a thread, by Python's own module, whichever of these is named.
_SQLITE = {"sqlite", "sqlite+pysqlite", "sqlite+aiosqlite"}
_INSTALL = {"asyncpg": "'asyncstore[postgresql]'"}
_PARTS = ("username", "password", "host", "port", "database", "query")
_SECRET = re.compile(r"pass|pwd|secret|token|key", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Address:
    """Hold where a database is.

    :ivar url: the complete URL, with the driver and the password; its `repr` hides the password.
    :ivar file: the file of a SQLite database; None elsewhere.
    :ivar secrets: what no message may show, the longest first.
    """

    url: URL
    file: Path | None
    secrets: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<Address {self}>"

    def __str__(self) -> str:
        """Give the URL without driver, user, password and options: what names the database, whoever reads it."""
        if self.file is not None:
            return f"sqlite:///{quote(str(self.file))}"
        host, port = self.url.host or "", f":{self.url.port}" if self.url.port else ""
        host = f"[{host}]" if ":" in host else host
        return f"{self.url.get_backend_name()}://{host}{port}/{quote(self.url.database or '')}"

    def uri(self, table: str) -> str:
        """Give the URI of a table, as an asset has it.

        :param table: the table, with its schema where that is named.
        """
        return f"{self}?table={quote(table)}"

    def hide(self, text: str) -> str:
        """Take the secrets out of a text.

        :param text: what a driver says.
        """
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


def resolve(url: str, connection: str | None = None, environ: Mapping[str, str] | None = None) -> Address:
    """Read a URL, and complete it from a named connection.

    :param url: a URL of SQLAlchemy; a driver may be left out.
    :param connection: names `ASYNCSTORE_CONN_<ID>`, whose parts go before those of the URL.
    :param environ: the environment; left out, that of the process.
    :raises ValueError: the URL or the driver is refused; shows no secret.
    :raises ConfigurationError: the connection is missing or no JSON object.
    """
    try:
        parsed = make_url(re.sub(r"^postgres(?=[:+])", "postgresql", url))
    except (ArgumentError, ValueError):
        raise ValueError(
            "the URL of the database cannot be read; write postgresql://user@host/database or sqlite:///path.db, and "
            "percent-encode what is special in a password"
        ) from None
    if connection is not None:
        parsed = _completed(parsed, connection, environ)
    if "@" in (parsed.host or ""):
        raise ValueError("the host of the URL holds an '@'; percent-encode the password: '@' is %40")
    if parsed.drivername in _SQLITE:
        file = _file(parsed)
        parsed = _opened_as_it_is(parsed, file)
        return Address(parsed, file, _secrets(parsed))
    parsed = _with_driver(parsed)
    return Address(parsed, None, _secrets(parsed))


def _completed(url: URL, connection: str, environ: Mapping[str, str] | None) -> URL:
    given = connection_options(connection, named_by="connection=", holds=", ".join(_PARTS), environ=environ)
    variable = connection_variable(connection)
    for name, value in given.items():
        expected = {"port": int, "query": dict}.get(name, str)
        if name not in _PARTS or not isinstance(value, expected) or isinstance(value, bool):
            raise ValueError(f"environment variable {variable}: {name!r} is refused; allowed are {', '.join(_PARTS)}: "
                             "texts, but port a number and query an object")  # fmt: skip
    query = {**url.query, **{name: str(value) for name, value in given.pop("query", {}).items()}}
    return url.set(**given, query=query)


def _with_driver(url: URL) -> URL:
    name, _, driver = url.drivername.partition("+")
    if not driver:
        known = _DRIVERS.get(name)
        if known is None:
            raise ValueError(f"no database is known as {name!r}; known are sqlite, {', '.join(_DRIVERS)}")
        driver = next((each for each in known if importlib.util.find_spec(each) is not None), known[0])
    url = url.set(drivername=f"{name}+{driver}")
    better = f"{name}+{_DRIVERS.get(name, ('an asynchronous driver',))[0]}"
    try:
        kind = url.get_dialect()
        kind = kind.get_async_dialect_cls(url)
        if not kind.is_async:
            raise ValueError(f"{url.drivername} is not asynchronous; write {better}:// or leave the driver out")
        kind.import_dbapi()
    except NoSuchModuleError:
        raise ValueError(f"no driver is known as {url.drivername!r}; write {better}://") from None
    except ImportError as error:
        missing = error.name or driver
        raise ValueError(
            f"{url.drivername} needs {missing}, which is not installed: pip install {_INSTALL.get(missing, missing)}"
        ) from None
    return url


def _file(url: URL) -> Path:
    text = url.database or ""
    if text.startswith("file:"):
        text = unquote(text.removeprefix("file:").removeprefix("//").partition("?")[0])
    if text in {"", ":memory:"} or url.query.get("mode") == "memory":
        raise ValueError("a SQLite database in memory can be watched by nobody else; name a file: sqlite:///path.db")
    return Path(text).absolute()


def _opened_as_it_is(url: URL, file: Path) -> URL:
    # A file that is not there must not be made.
    query = {"mode": "rw", "timeout": "1", **url.query, "uri": "true"}
    return url.set(drivername="sqlite+pysqlite", database=f"file:{quote(str(file))}", query=query)


def _secrets(url: URL) -> tuple[str, ...]:
    found = {str(url.password)} if url.password else set[str]()
    for name, value in url.query.items():
        if _SECRET.search(name):
            found.update([value] if isinstance(value, str) else value)
    found.update([quote(each, safe="") for each in found])
    return tuple(sorted((each for each in found if each), key=len, reverse=True))
