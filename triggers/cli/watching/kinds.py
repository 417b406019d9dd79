"""What `asyncstore watch` can watch: one kind for each sort of source, found by the scheme of a URL."""

from __future__ import annotations

from dataclasses import dataclass

import click

__all__ = ["Kind"]


@dataclass(frozen=True, slots=True)
class Kind:
    """Hold how one sort of source is watched.

    :ivar name: what it is called in the help, in capitals.
    :ivar example: a URL of it.
    :ivar schemes: which URLs are of this kind, lower case and without a `+driver`; the empty one stands for a path.
    :ivar command: takes the URL as its only argument, and the options of this kind.
    """

    name: str
    example: str
    schemes: frozenset[str]
    command: click.Command
