"""Whether the database can be reached, is this release's, can be written, and tells the right time."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from time import monotonic

from ...doctor.records import Finding, failed, ok, warning
from ...errors import SchemaError, StoreError
from .database import Database
from .migrate import HEAD, check
from .procedures import examining

__all__ = ["examine"]

#: Seconds between two clocks from which expiry is noticeably early or late, and plainly wrong.
_SKEW, _WRONG = 1.0, 60.0

_ON_SERVER = "see that it runs, that [database] url is right, and who may use it"
_IN_FILE = "correct [database] url; or see who may use the file, and restore it from a backup where it is damaged"


async def examine(database: Database) -> AsyncIterator[Finding]:
    """Look at a database, each check after what it needs.

    :param database: not yet opened.
    :raises SchemaError: its schema is not ours.
    :raises DatabaseError: it was lost on the way.
    """
    began = monotonic()
    try:
        revision = await database.revision()
    except SchemaError:
        raise
    except StoreError as error:
        yield failed("database", str(error), _ON_SERVER if database.path is None else _IN_FILE)
        return
    took = (monotonic() - began) * 1000
    if revision is None and database.path is not None and not database.path.exists():
        if not database.path.parent.is_dir():
            fix = "make its folder, or correct [database] url"
            yield failed("database", f"{database} does not exist, nor does its folder", fix)
            return
        fix = "nothing, if it is to be new: the first use makes it, and so does `asyncstore db upgrade`"
        yield warning("database", f"{database} does not exist", fix)
        return
    yield ok("database", f"{database} answers in {took:.0f} ms, connecting included")
    try:
        check(revision, str(database))
    except SchemaError as error:
        fix = "run `asyncstore db upgrade`; where a newer release wrote it, install that one"
        yield failed("schema", str(error), fix)
        return
    yield ok("schema", f"{HEAD}, which is current")
    await database.aopen()
    yield await _writing(database)
    async for finding in database.examine():
        yield finding
    yield await _clock(database)


async def _writing(database: Database) -> Finding:
    try:
        await database.write(examining.try_writing)
    except examining.UndoneError:
        return ok("writing", "a row was written, and the transaction undone")
    except StoreError as error:
        return failed("writing", str(error), "see who may write it, who holds a lock, and whether space is left")
    return failed("writing", "the transaction was not undone", "report it")


async def _clock(database: Database) -> Finding:
    before = time.time()
    there = await database.read(examining.tell_time, database.now) / 1e6
    here = (before + time.time()) / 2
    skew = there - here
    latest = await database.read(examining.last_event_time)
    if latest is not None and latest / 1e6 - there > _SKEW:
        told = f"the database's clock is {latest / 1e6 - there:.0f} s before its latest event: it was set back"
        return warning("clock", told, "have the machine of the database set its clock by NTP")
    told = f"the database's clock is {abs(skew):.3f} s {'ahead' if skew > 0 else 'behind'}"
    if abs(skew) <= _SKEW:
        return ok("clock", told if database.path is None else "this machine's, and not before the latest event")
    fix = "have both machines set their clocks by NTP: values written here expire that much too early or late"
    return (failed if abs(skew) > _WRONG else warning)("clock", told, fix)
