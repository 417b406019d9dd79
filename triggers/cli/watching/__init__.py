"""`asyncstore watch`: one module for each kind of source, with its options; the scheme of the URL chooses."""

from __future__ import annotations

from .command import watch

__all__ = ["watch"]
