"""The schema's revision: what this release needs, and the way from one revision to another, on any database."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from ...errors import SchemaError
from .schema import VERSION_TABLE

__all__ = ["BASE", "HEAD", "alembic_lock", "check", "check_target", "known", "move"]

#: The latest revision in `migrations/versions`; a test holds the two together.
HEAD = "0004"
#: Before the first revision: no tables.
BASE = "base"
_MIGRATIONS = Path(__file__).parent / "migrations"

# Alembic keeps what it works on in module globals: one migration at a time in a process, whatever its database.
_alembic = threading.Lock()


def _forget() -> None:
    global _alembic
    _alembic = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def alembic_lock() -> threading.Lock:
    """Give the lock to be held around `move`."""
    return _alembic


def known() -> list[str]:
    """List the revisions that this release knows, the first one first."""
    return sorted(path.name.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py"))


def check(found: str | None, place: str) -> None:
    """Refuse a schema that is not this release's.

    :param found: its revision; None where there are none of our tables.
    :param place: the database, for the message.
    :raises SchemaError: it is missing, older or newer.
    """
    if found == HEAD:
        return
    if found is None:
        raise SchemaError(f"{place} has none of asyncstore's tables; run `asyncstore db upgrade` to add them")
    if found in known():
        raise SchemaError(f"{place} has schema {found}, this release needs {HEAD}; run `asyncstore db upgrade`")
    raise SchemaError(
        f"{place} has schema {found}, which this release does not know (its own is {HEAD}); a newer release wrote it: "
        "upgrade asyncstore"
    )


def check_target(found: str | None, revision: str, place: str) -> None:
    """Refuse a downgrade that is none.

    :param found: the schema's revision.
    :param revision: where it is to go.
    :param place: the database, for the message.
    :raises SchemaError: there is no such revision, or it is a later one.
    """
    steps = [BASE, *known()]
    if revision not in steps:
        raise SchemaError(f"there is no schema {revision!r}; there are {', '.join(steps)}")
    if found is not None and found not in steps:
        check(found, place)
    if steps.index(revision) > steps.index(found or BASE):
        raise SchemaError(f"{place} has schema {found or BASE}; {revision} is later: `asyncstore db upgrade` goes up")


def move(connection: Any, revision: str, *, down: bool = False) -> None:
    """Migrate, on a connection of SQLAlchemy's and inside its transaction.

    :param connection: has begun a transaction, which the caller ends.
    :param revision: where to.
    :param down: to an earlier revision.
    """
    # Alembic takes a third of a second to import, and most processes find their schema ready.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("version_table", VERSION_TABLE)
    config.attributes["connection"] = connection
    (command.downgrade if down else command.upgrade)(config, revision)
