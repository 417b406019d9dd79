"""`asyncstore config`: what is configured, and where it came from."""

from __future__ import annotations

import os
from dataclasses import dataclass

import click

from ..settings import TracedOption, trace_settings
from .commands import Group
from .running import options_of, overrides_of
from .showing import Shape, show_rows, shows, told

__all__ = ["config"]

_CONNECTION = "ASYNCSTORE_CONN_"


@dataclass(frozen=True)
class OptionRow(Shape):
    """An option and its value."""

    option: str = told("its section in brackets and its name, as `[database] url`; or `connection NAME`", "OPTION")
    value: str | int | float | bool | None = told(
        "its value, secrets as `***`; null for none", "VALUE", show=lambda value: _text(value)
    )
    source: str = told("`default`, `file`, `environment` or `argument`", "SOURCE")
    origin: str | None = told("the path of the file, or the environment variable; null for the others", "ORIGIN")

    @classmethod
    def of(cls, traced: TracedOption) -> OptionRow:
        """Show an option."""
        value = traced.value
        return cls(str(traced.option), value, traced.source, traced.origin)  # type: ignore[arg-type]


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "-" if value is None else str(value)


@click.group(cls=Group, short_help="Show what is configured, and where it came from.")
def config() -> None:
    """Show what is configured, and where it came from."""


@config.command("show", short_help="Show every option.")
@click.option("--changed", is_flag=True, help="Only those that something sets.")
@shows(OptionRow)
@click.pass_context
def show(ctx: click.Context, changed: bool, as_json: bool) -> None:
    """Show every option: its value, and whether that is the default or which file, variable or argument gave it.

    Passwords and tokens are shown as ***, and so is what a connection (ASYNCSTORE_CONN_...) holds.
    """
    options = options_of(ctx)
    traced = trace_settings(path=options.config, overrides=overrides_of(options))
    rows = [OptionRow.of(each) for each in traced if not changed or each.source != "default"]
    rows += [
        OptionRow(f"connection {name.removeprefix(_CONNECTION)}", "***", "environment", name)
        for name in sorted(os.environ)
        if name.startswith(_CONNECTION)
    ]
    show_rows(OptionRow, rows, as_json=as_json)
