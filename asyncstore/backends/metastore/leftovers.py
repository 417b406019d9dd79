"""The references that rows of the metastore hold no more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from ...errors import SchemaError
from ...offload.abc import Leftover, Leftovers
from . import statements
from .database import Database
from .steps import Procedure, ask, tells

__all__ = ["MetastoreLeftovers"]


@final
class MetastoreLeftovers(Leftovers):
    """Give what the triggers of the schema remember.

    :param database: the database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def alist(self, *, after: int = 0, limit: int) -> list[Leftover]:
        """List a page of them, in one statement."""
        return await self._database.read(_list, after, limit)

    async def aforget(self, ids: Sequence[int]) -> None:
        """Forget some, in one statement."""
        await self._database.write(_forget, list(ids))

    async def aidentity(self) -> str:
        """Give the identity that the migration drew."""
        return await self._database.read(_identity)


def _list(after: int, limit: int) -> Procedure[list[Leftover]]:
    rows, _ = yield ask(statements.leftovers.list_leftovers, after=after, limit=limit)
    return [Leftover(row[0], row[1]) for row in rows]


@tells()
def _forget(ids: list[int]) -> Procedure[None]:
    yield ask(statements.leftovers.forget_leftovers, ids=ids)


def _identity() -> Procedure[str]:
    rows, _ = yield ask(statements.leftovers.tell_identity)
    if not rows:
        raise SchemaError("the table asyncstore_identity is empty; it has the one row that the migration put there")
    return str(rows[0][0])
