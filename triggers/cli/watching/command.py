"""`asyncstore watch SOURCE`: the scheme of the source decides whose options and help there are."""

from __future__ import annotations

import re
from typing import Any, final

import click

from asyncstore.cli.failures import Misuse

from . import folder, http, objects, schedule, table
from .kinds import Kind

__all__ = ["KINDS", "watch"]

#: Every kind, in the order of the help.
KINDS: tuple[Kind, ...] = (folder.KIND, objects.KIND, table.KIND, http.KIND, schedule.KIND)

# One letter is a drive of Windows, not a scheme.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9.-]+)(\+[A-Za-z0-9_.+-]+)?:")


@final
class _Watch(click.Command):
    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        source = _first_argument(args)
        if source is None:
            if args and not {"-h", "--help"} & {*args}:
                raise Misuse("Missing argument 'SOURCE'; asyncstore watch --help shows what can be watched")
            return super().make_context(info_name, args, parent, **extra)
        if not source:
            raise Misuse("SOURCE is empty; for the folder you are in write .")
        return _kind_of(source).command.make_context(info_name, args, parent, **extra)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Sources (for options: asyncstore watch SOURCE --help)"):
            formatter.write_dl([(kind.example, kind.command.get_short_help_str(80)) for kind in KINDS])


@click.command(
    cls=_Watch,
    short_help="Watch a source; one JSON line for every event.",
    no_args_is_help=True,
)
@click.argument("source")
def watch(source: str) -> None:
    """Watch SOURCE, a path or a URL, and write one JSON line for every event.

    Each event and the memory of how far the source was read are one commit, and then one JSON line on stdout. Kill it
    at any moment and start it again: no event is lost and none is doubled. SIGINT and SIGTERM end it within five
    seconds.
    """
    raise AssertionError(source)  # make_context leads to the command of a kind


def _first_argument(args: list[str]) -> str | None:
    """Find the first argument that is no option, and not the value of one, whichever kind has the option."""
    valued = {
        text: parameter
        for kind in KINDS
        for parameter in kind.command.params
        if isinstance(parameter, click.Option) and not parameter.is_flag and not parameter.count
        for text in (*parameter.opts, *parameter.secondary_opts)
    }
    rest = iter(args)
    for text in rest:
        if text == "--":
            return next(rest, None)
        if text == "-" or not text.startswith("-"):
            return text
        if text in valued:
            for _ in range(valued[text].nargs):
                next(rest, None)
    return None


def _kind_of(source: str) -> Kind:
    found = _SCHEME.match(source)
    scheme = found[1].lower() if found else ""
    for kind in KINDS:
        if scheme in kind.schemes:
            return kind
    known = ", ".join(sorted(each for kind in KINDS for each in kind.schemes if each))
    raise Misuse(
        f"nothing here watches {scheme}: sources; known are paths and {known} (asyncstore watch --help shows them). "
        f"For a folder of that name write ./{source}"
    )
