"""What commands are made of: groups that guess what was meant, options that several have, and questions."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable

import click

from ..settings.showing import printable
from .failures import Failure, Misuse

__all__ = ["Group", "confirm", "counted", "near", "yes_option"]

#: `--yes`, as `yes`.
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


def near(name: str, names: Iterable[str]) -> str:
    """Give a question that names what was probably meant; nothing where nothing is near."""
    close = difflib.get_close_matches(name, list(names), 1)
    return f" Did you mean {close[0]!r}?" if close else ""


class Group(click.Group):
    """Name the command that was probably meant, where there is none of the name that was given."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments begin with."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if "Did you mean" not in error.format_message():  # click says so by itself since 8.4
                raise click.UsageError(f"{error.message}{near(args[0], self.list_commands(ctx))}", ctx) from error
            raise

    group_class = type  # groups inside are of this kind, too


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is deleted.

    :param question: what would go, and how much.
    :param yes: do not ask.
    :raises Misuse: there is nobody to ask.
    :raises Failure: the answer is no.
    """
    if yes:
        return
    if not sys.stdin or not sys.stdin.isatty():
        raise Misuse(f"{question}? There is no terminal to ask on; give --yes if so")
    # Not `click.confirm`, which writes a space to stdout.
    click.echo(f"{printable(question)}? [y/N] ", nl=False, err=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise Failure("not confirmed; nothing was done")


def counted(count: int, one: str, many: str | None = None) -> str:
    """Give a number with its noun."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
