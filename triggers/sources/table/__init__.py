"""Watching a table of a SQL database."""

from __future__ import annotations

from .trigger import TableTrigger

__all__ = ["TableTrigger"]
