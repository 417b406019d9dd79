"""The references that rows hold no more."""

from __future__ import annotations

from sqlalchemy import BigInteger, Executable, bindparam, delete, select

from .. import dialect
from ..schema import identity, leftover

__all__ = ["forget_leftovers", "list_leftovers", "tell_identity"]


def list_leftovers() -> Executable:
    """List a page of them, the oldest first."""
    behind = leftover.c.id > bindparam("after", type_=BigInteger)
    return select(leftover.c.id, leftover.c.value).where(behind).order_by(leftover.c.id).limit(dialect.limit("limit"))


def forget_leftovers() -> Executable:
    """Delete those of a list of ids."""
    return delete(leftover).where(dialect.in_list(leftover.c.id, "ids"))


def tell_identity() -> Executable:
    """Tell what this store is called."""
    return select(identity.c.id)
