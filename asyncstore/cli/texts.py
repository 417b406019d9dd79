"""Values and retentions as people write them on a command line."""

from __future__ import annotations

import json
import re
import sys
from datetime import timedelta
from typing import Any

import click

from ..retention import NEVER_EXPIRE
from ..values import JsonValue
from .failures import Misuse

__all__ = ["ValueCommand", "quoted", "read_retention", "read_value"]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
#: Characters of a value that a message repeats; more would push its reason off the screen.
_MOST_SHOWN = 60
_NEGATIVE = re.compile(r"-[0-9.]")


class ValueCommand(click.Command):
    """Take `-5` for a value, not for an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; what looks like a negative number is no option."""
        if any(_NEGATIVE.match(each) for each in args):
            ctx.ignore_unknown_options = True
        return super().parse_args(ctx, args)


def read_value(text: str, *, as_text: bool) -> JsonValue:
    """Read a value from the command line, or from stdin for `-`.

    :param text: JSON; with `as_text` any text.
    :raises Misuse: it is no JSON; says how to write what was probably meant.
    """
    shown = quoted(text)
    if text == "-":
        text, shown = _stdin(), "stdin"
        if as_text and text.endswith("\n"):  # what a shell adds, and takes away from what is printed
            text = text[:-1]
    if as_text:
        return text
    try:
        value: JsonValue = json.loads(text)
    except (ValueError, RecursionError) as error:
        hint = "give --text to store it as a string"
        if len(text) <= _MOST_SHOWN:
            hint += f", or quote it: {json.dumps(text)}"
        raise Misuse(f"{shown} is no JSON ({error}); {hint}") from error
    return value


def quoted(text: str) -> str:
    """Give a text as a message quotes it: its beginning, where it is long."""
    return repr(text) if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]!r}... ({len(text):,} characters)"


def _stdin() -> str:
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]  # where the program was started without one
        raise Misuse("standard input is closed")
    data = sys.stdin.buffer.read()
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Misuse(f"stdin is no UTF-8 text: {error}") from error


def read_retention(ctx: click.Context, param: click.Parameter, text: str | None) -> Any:
    """Read a retention such as `7d`, or `never`."""
    if text is None:
        return None
    if text == "never":
        return NEVER_EXPIRE
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhdw])", text)
    if found is None:
        raise click.BadParameter(
            f"{text!r} is no retention, such as 90s, 30m, 12h, 7d, 2w or never (nothing given: the configured default)",
            ctx,
            param,
        )
    try:
        return timedelta(**{_UNITS[found[2]]: float(found[1])})
    except OverflowError:
        raise click.BadParameter(f"{text!r} is too long; write never", ctx, param) from None
