"""Revisions, and marks inside a transaction."""

from __future__ import annotations

from sqlalchemy import Executable, bindparam, select, text, update

from ..schema import revision

__all__ = ["hold_revision", "last_revision", "next_revisions", "release_savepoint", "savepoint", "undo_to_savepoint"]


def next_revisions() -> Executable:
    """Take `count` revisions; gives the last of them."""
    return update(revision).values(value=revision.c.value + bindparam("count")).returning(revision.c.value)


def hold_revision() -> Executable:
    """Take SQLite's write lock, and change nothing."""
    return update(revision).values(value=revision.c.value)


def savepoint() -> Executable:
    """Set a mark to go back to."""
    return text("SAVEPOINT asyncstore")


def undo_to_savepoint() -> Executable:
    """Undo what was done behind the mark."""
    return text("ROLLBACK TO asyncstore")


def release_savepoint() -> Executable:
    """Take the mark away."""
    return text("RELEASE asyncstore")


def last_revision() -> Executable:
    """Read the last revision that was taken."""
    return select(revision.c.value)
