"""Which server and database a URL means, and how connections to it are opened."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import asyncpg

from ....errors import ConfigurationError
from ....settings import DatabaseSettings

__all__ = ["APPLICATION", "Target"]

APPLICATION = "asyncstore"
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\[\]:/]*)(?::(\d{1,5}))?")
_TIMES = {"connect_timeout", "tcp_user_timeout"}
_NOT_TAKEN = _TIMES | {
    *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
    *("channel_binding", "gssencmode", "require_auth", "load_balance_hosts"),
}
_SESSION_ATTRS = {"any", "primary", "standby", "prefer-standby", "read-write", "read-only"}

#: Every statement of ours goes by an index; with the plan made once, for any parameters.
_PLANNING = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}


@dataclass(frozen=True, slots=True)
class Target:
    """Name a database on a server.

    :ivar dsns: as asyncpg takes them, secrets included; one for every host that could be asked first. The one that
        led to a connection stays the first.
    :ivar place: for messages, without secrets.
    :ivar durable: wait for every commit to be on disk, as the server is set up.
    :ivar pooled: a pooler in transaction mode stands between.
    :ivar relayed: a pooler in session mode stands between.
    :ivar named: the URL says how connections are called.
    """

    dsns: list[str] = field(repr=False)
    place: str
    durable: bool
    pooled: bool
    relayed: bool
    named: bool

    @classmethod
    def parse(cls, settings: DatabaseSettings) -> Target:
        """Read the options.

        The URL takes what asyncpg's does: several hosts with commas, `?host=/run/postgresql` for a unix socket,
        `sslmode`, `sslrootcert`, `target_session_attrs`, and settings of the server such as `search_path`. With several
        hosts, one that can be written to is looked for unless `target_session_attrs` says something else.

        :raises ConfigurationError: it is no URL of a PostgreSQL database.
        """
        try:
            parts = urlsplit(settings.url)
        except ValueError:
            raise _no_url() from None
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if "ssl" in options:  # as SQLAlchemy spells it
            options.setdefault("sslmode", options.pop("ssl"))
        address = parts.netloc.rpartition("@")[2]
        # A sign in the password that is not encoded ends the address too early; what follows has its "@".
        torn = parts.fragment or "@" in parts.path or any("@" in name for name in options)
        if torn or not all(_is_host(host) for host in address.split(",")):
            raise _no_url()
        _check_options(options)
        hosts = options.get("host", address)
        if "," in hosts:
            options.setdefault("target_session_attrs", "read-write")
        database = unquote(parts.path.removeprefix("/")) or options.get("database") or options.get("dbname", "")
        if "\0" in unquote(settings.url):
            raise ConfigurationError("[database] url: the value holds a NUL character")
        return cls(
            dsns=_dsns(parts.netloc, parts.path, options),
            place=f"the PostgreSQL database {database!r} on {hosts or 'the default host'}",
            durable=settings.durability == "full",
            pooled=settings.pooler == "transaction",
            relayed=settings.pooler == "session",
            named="application_name" in options,
        )

    async def connect(self, *, lock_timeout: float, timeout: float, planning: bool = True) -> asyncpg.Connection[Any]:
        """Open a connection.

        :param lock_timeout: seconds that a statement waits for a lock.
        :param timeout: seconds that opening may take.
        :param planning: for our own short statements.
        """
        greeting: dict[str, str] = {} if self.named else {"application_name": APPLICATION}
        settings: dict[str, str] = {}
        if not self.pooled:
            # A pooler refuses what it does not know; `Link` says it in each transaction there.
            settings["lock_timeout"] = f"{max(round(lock_timeout * 1000), 1)}"
            settings["default_transaction_isolation"] = "read committed"
            settings |= _PLANNING if planning else {}
            if not self.durable:
                settings["synchronous_commit"] = "off"
        if not self.relayed:
            greeting |= settings
            settings = {}
        # A host that is dead without a word must not take all of the time: then another one is asked first.
        end = monotonic() + timeout
        dsns = list(self.dsns)
        for place, dsn in enumerate(dsns):
            share = max((end - monotonic()) / (len(dsns) - place), 0.01)
            try:
                async with asyncio.timeout(share):
                    connection: asyncpg.Connection[Any] = await asyncpg.connect(
                        dsn, server_settings=greeting, statement_cache_size=0 if self.pooled else 100, timeout=share
                    )
                    if settings:
                        await connection.execute("; ".join(f"SET {name} = '{settings[name]}'" for name in settings))
            except TimeoutError:
                if place == len(dsns) - 1:
                    raise
            else:
                if place:  # in one step, since other threads look at it
                    self.dsns[:] = [dsn, *(other for other in dsns if other != dsn)]
                return connection
        raise AssertionError("no host is named")


def _is_host(text: str) -> bool:
    found = _HOST.fullmatch(text)
    return found is not None and int(found[2] or 0) < 65536


def _no_url() -> ConfigurationError:
    # Without the value: where a password is not encoded, parts of it look like a host or a port.
    return ConfigurationError(
        "[database] url: the value is no URL of a PostgreSQL database, as "
        "postgresql+asyncpg://user:password@host:5432/database. In a user or a password, / # ? @ [ ] : and % are "
        "percent-encoded"
    )


def _check_options(options: dict[str, str]) -> None:
    wanted = options.get("target_session_attrs")
    if wanted is not None and wanted not in _SESSION_ATTRS:
        raise ConfigurationError(
            f"[database] url: target_session_attrs={wanted!r}; allowed: {', '.join(sorted(_SESSION_ATTRS))}"
        )
    for name in sorted(_NOT_TAKEN & options.keys()):
        raise ConfigurationError(
            f"[database] url: {name} is an option of libpq's that cannot be heeded here; leave it out"
            + ("; see `[database] operation_timeout`" if name in _TIMES else "")
        )
    for name in ("sslrootcert", "sslcert", "sslkey", "sslcrl"):
        path = options.get(name)
        if path and not (name == "sslrootcert" and path == "system") and not Path(path).is_file():
            raise ConfigurationError(f"[database] url: {name}={path!r} is no file")


def _dsns(place: str, path: str, options: dict[str, str]) -> list[str]:
    user, at, address = place.rpartition("@")
    found: list[str] = []
    for _ in range((options.get("host") or address).count(",") + 1):
        query = f"?{urlencode(options, quote_via=quote)}" if options else ""
        found.append(f"postgresql://{user}{at}{address}{path}{query}")
        address = _turned(address)
        options |= {name: _turned(options[name]) for name in ("host", "port") if name in options}
    return found


def _turned(hosts: str) -> str:
    first, comma, rest = hosts.partition(",")
    return f"{rest}{comma}{first}"
