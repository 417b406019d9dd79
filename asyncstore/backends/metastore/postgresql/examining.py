"""What can be wrong with a PostgreSQL server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ....doctor.records import Finding, failed, ok, warning

__all__ = ["examine_server"]

_OLDEST = 120_000
_FULL = 0.9


def examine_server(facts: Sequence[Any], lacking: Sequence[str]) -> Iterator[Finding]:
    """Look at a server.

    :param facts: what `statements.examining.server_facts` gives.
    :param lacking: the tables that the role may not use.
    """
    version, number, most, fsync, whole_pages, used, standby = facts
    told = f"PostgreSQL {version}, {used} of {most} connections in use"
    if int(number) < _OLDEST:
        yield failed("server", told, "PostgreSQL 12 or later is needed")
    elif standby:
        yield failed("server", f"{told}; it is a standby", "name the primary in [database] url, or several hosts")
    elif "off" in {fsync, whole_pages}:
        yield warning(
            "server", f"{told}; fsync or full_page_writes is off", "switch both on: a crash can lose everything"
        )
    elif used >= _FULL * int(most):
        yield warning("server", told, "raise max_connections, lower [database] pool_size, or put a pooler in between")
    else:
        yield ok("server", told)
    if lacking:
        fix = f"GRANT SELECT, INSERT, UPDATE, DELETE ON {', '.join(lacking)} TO the role"
        yield failed("rights", f"the role may not use {len(lacking)} tables: {', '.join(lacking[:3])}", fix)
    else:
        yield ok("rights", "the role may read and write every table")
