"""The `asyncstore` program: `main` and what commands of other packages share with its own.

An installed package adds a command with an entry point of the group `asyncstore.commands` that leads to a click
command. It calls `asyncstore.cli.running.run` and `open_store`, and prints with `asyncstore.cli.output`.
"""

from __future__ import annotations

from .program import main

__all__ = ["main"]
