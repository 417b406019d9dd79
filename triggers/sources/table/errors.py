"""Why a table cannot be read.

::

    UnreadableError    it cannot be read now: away, slow, altered; a later look may succeed
    WrongTableError    what was asked for is not there: no such table or column; a ValueError
"""

from __future__ import annotations

__all__ = ["UnreadableError", "WrongTableError"]


class UnreadableError(Exception):
    """Say that the table cannot be read now; the text holds no secret."""


class WrongTableError(ValueError):
    """Say that the table or a column is not there, or cannot be watched; names what there is."""
