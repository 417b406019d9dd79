"""How a command ends that does not end well: one line on stderr and an exit code.

::

    0    done
    1    Failure: the operation failed
    2    Misuse (and click's usage errors): wrong usage or configuration
    130  Interrupted: Ctrl-C
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from typing import IO, Any, ClassVar, cast

import click

from ..errors import AssetNotFoundError, ConfigurationError, StoreError
from ..settings.showing import printable
from . import output

__all__ = ["Failure", "Interrupted", "Misuse", "translated"]


class Failure(click.ClickException):
    """Say that the operation failed.

    :ivar debug: show the traceback of the cause as well.
    """

    exit_code: ClassVar[int] = 1
    debug: bool = False

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the message to stderr, each of its lines marked as an error."""
        if self.debug and self.__cause__ is not None:
            click.echo("".join(traceback.format_exception(self.__cause__)).rstrip(), file=file, err=True)
        mark = "error:"  # `echo` takes the colour off again where stderr is no terminal
        if not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb":
            mark = click.style(mark, fg="red", bold=True)
        for line in self.format_message().split("\n"):
            click.echo(f"{mark} {printable(line)}", file=file, err=True)


class Misuse(Failure):
    """Say that the command was used, or the program configured, in a wrong way."""

    exit_code: ClassVar[int] = 2


class Interrupted(click.ClickException):
    """Say that the user interrupted the command, and what that leaves behind."""

    exit_code: ClassVar[int] = 130

    def __init__(self, message: str = "interrupted") -> None:
        super().__init__(message)

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the message to stderr."""
        click.echo(self.format_message(), file=file, err=True)


@contextmanager
def translated(*, debug: bool = False) -> Generator[None]:
    """Turn every error inside into one that click shows without a traceback.

    :param debug: have it show the traceback of the cause.
    :raises Failure: for errors of the store, and whatever else was raised.
    :raises Misuse: for `ConfigurationError`, `AssetNotFoundError`, and the `ValueError` or `TypeError` of bad input.
    :raises Interrupted: for `KeyboardInterrupt`.
    """
    try:
        yield
    except (KeyboardInterrupt, Exception, BaseExceptionGroup) as error:
        first = _leaves(error)[0]
        ending = _ending(first)
        if isinstance(ending, Failure):
            ending.debug = debug
        if ending is error:
            raise
        raise ending from error


def _leaves(error: BaseException) -> list[BaseException]:
    # A task group wraps the error of a task; what ends the program by itself comes first.
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    inner = cast("tuple[BaseException, ...]", error.exceptions)
    found = [leaf for each in inner for leaf in _leaves(each)]
    return sorted(found, key=lambda leaf: not isinstance(leaf, KeyboardInterrupt | click.exceptions.Exit))


def _ending(error: BaseException) -> BaseException:
    text = str(error) or type(error).__name__
    match error:
        case BrokenPipeError() if output.is_abandoned():
            output.silence(sys.stdout)
            return click.exceptions.Exit(output.CLOSED)
        case click.ClickException() | click.exceptions.Exit() | click.Abort():
            return error
        case KeyboardInterrupt():
            return Interrupted()
        case ConfigurationError() | AssetNotFoundError():
            return Misuse(text)
        case StoreError():
            return Failure(text)
        case UnicodeEncodeError():
            return Misuse(f"{error.object[error.start : error.end]!r} is a byte that is no UTF-8 text; names are text")
        case ValueError() | TypeError():
            return Misuse(text)
        case Exception():
            return Failure(f"{type(error).__name__}: {error} (`asyncstore --debug ...` shows where)")
        case _:  # SystemExit and the like, out of a task group
            return error
