"""Procedures: what an operation does to the database, apart from how a database is spoken to.

A procedure is a generator. It yields each statement with its parameters and is sent what the database answered,
so that one text serves a thread on SQLite, a connection of PostgreSQL and a session of the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, ParamSpec, TypeVar

from sqlalchemy import Executable

__all__ = ["Answer", "Now", "Procedure", "Step", "ask", "tells", "words_of"]

P = ParamSpec("P")
T = TypeVar("T")

#: Gives the time in microseconds; None where the database's own clock is to be used.
Now = Callable[[], int | None]


@dataclass(frozen=True, slots=True)
class Step:
    """One statement, by the function of `statements` that builds it, and its parameters."""

    build: Callable[..., Executable]
    arguments: tuple[Any, ...]
    parameters: Mapping[str, Any]


class Answer(NamedTuple):
    """What the database answered.

    :ivar rows: the rows.
    :ivar touched: how many rows a statement that changes something touched.
    """

    rows: Sequence[Sequence[Any]]
    touched: int


Procedure = Generator[Step, Answer, T]


def ask(build: Callable[..., Executable], *arguments: Any, **parameters: Any) -> Step:
    """Make a step.

    :param build: a function of `statements`.
    :param arguments: its arguments.
    :param parameters: of the statement.
    """
    return Step(build, arguments, parameters)


_words: dict[Callable[..., Procedure[Any]], tuple[str, ...]] = {}


def tells(*words: str) -> Callable[[Callable[P, Procedure[T]]], Callable[P, Procedure[T]]]:
    """Say which words tell those who wait for them that a procedure was done; without any, nobody need be told.

    A procedure without this may have changed anything.
    """

    def mark(procedure: Callable[P, Procedure[T]]) -> Callable[P, Procedure[T]]:
        _words[procedure] = words
        return procedure

    return mark


def words_of(procedure: Callable[..., Procedure[Any]]) -> tuple[str, ...] | None:
    """Give the words of a procedure; None where it may have changed anything."""
    return _words.get(procedure)
