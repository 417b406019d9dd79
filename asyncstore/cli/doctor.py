"""`asyncstore doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

import click

from ..doctor.records import Finding, Status
from ..settings import Settings
from .output import emit, is_utf8
from .running import import_from_here, run, settings_of
from .showing import Shape, columns_of_terminal, is_terminal, show_rows, shows, styled, told
from .tables import escape, wrap

__all__ = ["doctor"]

_COLOURS = {Status.OK: "green", Status.WARNING: "yellow", Status.FAILED: "red", Status.SKIPPED: "bright_black"}
_CHECK = 15


@dataclass(frozen=True)
class FindingRow(Shape):
    """What a check found."""

    status: str = told("`ok`, `warning`, `failed` or `skipped`", "STATUS")
    check: str = told("what was looked at", "CHECK")
    message: str = told("what was found", "MESSAGE")
    fix: str | None = told("what to do about it; null where nothing need be done", "FIX")


@click.command(short_help="Find out what is wrong, and what to do about it.")
@shows(FindingRow)
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Look at everything around the store, a line for each check, and say what to do about what is wrong.

    The configuration; whether the database can be reached and written, how long it takes, its schema, its settings and
    its clock; whether the worker-side backend keeps and deletes; triggerers, watchers and consumers; what waits for
    garbage collection. Nothing stays written. Exits with 1 if anything failed, with 0 if there are only warnings.
    """
    from ..doctor.examining import examine  # with what it takes to keep values elsewhere

    def read() -> Settings:
        settings = settings_of(ctx)
        import_from_here(settings)
        return settings

    async def main() -> bool:
        failed = False
        async for finding in examine(read):
            failed |= finding.status is Status.FAILED
            _show(finding, as_json=as_json)
        return failed

    if run(ctx, main):
        ctx.exit(1)


def _show(finding: Finding, *, as_json: bool) -> None:
    if as_json or not is_terminal():
        row = FindingRow(finding.status.value, finding.check, finding.message, finding.fix)
        show_rows(FindingRow, [row], as_json=as_json)
        return
    status = styled(f"{finding.status:8}", fg=_COLOURS[finding.status], bold=True)
    cells = max(columns_of_terminal() - 8 - 1 - _CHECK, 20)
    message, *rest = wrap(escape(finding.message, ascii_only=not is_utf8()), cells)
    rest += wrap(f"fix: {escape(finding.fix, ascii_only=not is_utf8())}", cells) if finding.fix else []
    emit([f"{status} {finding.check:{_CHECK}}{message}", *(" " * (9 + _CHECK) + line for line in rest)])
