"""The program itself: its global options, its commands, and how it ends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, final

import click

from . import output, plugins
from .assets import assets
from .commands import Group
from .completion import completion
from .config import config
from .database import db
from .doctor import doctor
from .events import events
from .failures import Failure, Interrupted, Misuse, translated
from .running import GlobalOptions
from .state_store import state_store
from .stores import asset_store, task_store

__all__ = ["main"]

_EPILOG = (
    "Example: asyncstore asset-store set orders watermark 42",
    "Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 130 interrupted",
)
#: What people do, and the commands for it; those of other packages that are not named here come last.
_SECTIONS = {
    "State": ("assets", "asset-store", "task-store"),
    "Events": ("watch", "triggerer", "triggers", "events"),
    "Care": ("doctor", "config", "db", "state-store", "completion"),
}


@final
class _Program(Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *plugins.names()})

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Tell the whole story in one screen of 24 lines and 80 columns."""
        formatter.write(f"Usage: {ctx.command_path} [OPTIONS] COMMAND [ARGS]...\n")
        formatter.write(f"  {self.help}\n\n")
        commands = {name: found for name in self.list_commands(ctx) if (found := self._listed(ctx, name))}
        named = {name for names in _SECTIONS.values() for name in names}
        sections = {**_SECTIONS, "Others": tuple(name for name in commands if name not in named)}
        wide = max(map(len, commands)) + 2
        for section, names in sections.items():
            title = section
            for name in names:
                if name in commands and not commands[name].hidden:
                    told = commands[name].get_short_help_str(limit=80 - 8 - wide)
                    formatter.write(f"{title:8}{name:{wide}}{told}\n")
                    title = ""
        formatter.write("\n")
        records = [each.get_help_record(ctx) for each in self.get_params(ctx)]
        formatter.write_dl([each for each in records if each is not None])
        formatter.write("\n".join(_EPILOG) + "\n")

    def _listed(self, ctx: click.Context, name: str) -> click.Command | None:
        return super().get_command(ctx, name) or plugins.listed(name)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        # Ours come first: no package can put itself in the place of a command that people know.
        return super().get_command(ctx, cmd_name) or plugins.load(cmd_name)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        with translated():  # --help writes in here
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> None:
        with translated(debug=bool(ctx.params.get("debug"))):
            super().invoke(ctx)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        def call() -> object:
            return super(_Program, self).main(args, prog_name, complete_var, standalone_mode=False, **extra)

        if not standalone_mode:
            return call()
        sys.exit(_exit_code(call))


def _exit_code(call: Callable[[], object]) -> int:
    try:
        code = _outcome(call)
        return _outcome(output.finish) or code
    except KeyboardInterrupt:  # once more, while the first was told
        return Interrupted.exit_code
    except BrokenPipeError:
        output.silence(sys.stdout)
        output.silence(sys.stderr)
        return output.CLOSED


def _outcome(call: Callable[[], object]) -> int:
    try:
        code = call()
    except click.exceptions.Exit as ending:
        code = ending.exit_code
    except click.Abort:
        code = _told(Interrupted())
    except click.ClickException as error:
        code = _told(error)
    return code if isinstance(code, int) else 0


def _told(error: click.ClickException) -> int:
    if isinstance(error, click.UsageError) and not isinstance(error, _HELP):
        if error.ctx is not None:
            path = error.ctx.command_path
            click.echo(f"{error.ctx.get_usage()}\nTry '{path} --help' for help.", err=True)
        Misuse(error.format_message()).show()
    elif isinstance(error, Failure | Interrupted | _HELP):
        error.show()
    else:
        Failure(error.format_message()).show()
    return error.exit_code


#: Raised by click 8.2 and later for a group without a command; its message is the whole help.
_HELP: type[click.ClickException] = getattr(click.exceptions, "NoArgsIsHelpError", Interrupted)


@click.group("asyncstore", cls=_Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--database", metavar="URL", help="The metastore; wins over [database] url.")
@click.option(
    "--config",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="The settings file; wins over ASYNCSTORE_CONFIG.",
)
@click.option("--debug", is_flag=True, envvar="ASYNCSTORE_DEBUG", help="Show the traceback of an error.")
@click.version_option(package_name="asyncstore", message="%(prog)s %(version)s", help="Show the version and exit.")
@click.pass_context
def main(ctx: click.Context, database: str | None, config: Path | None, debug: bool) -> None:
    """Keep durable state of tasks and assets, and the events of watchers."""
    ctx.obj = GlobalOptions(database, config, debug)


for _command in (assets, asset_store, task_store, events, doctor, config, db, state_store, completion):
    main.add_command(_command)
