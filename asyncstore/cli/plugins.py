"""Commands of other packages: entry points of one group, imported when they are asked for."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

import click

from .failures import Failure

__all__ = ["GROUP", "listed", "load", "names"]

GROUP = "asyncstore.commands"
#: The distribution that this program is of, and what the commands say that other packages of it add: a list of commands
#: is not worth importing all that they run.
_OURS = "asyncstore"
_TOLD = {
    "triggerer": "Run the watchers and handlers of a module or file.",
    "triggers": "See, pause, resume, restart and kill watchers.",
    "watch": "Watch a source; one JSON line for every event.",
}


def names() -> set[str]:
    """Give the names of the commands, without importing any."""
    return {entry.name for entry in entry_points(group=GROUP)}


def listed(name: str) -> click.Command | None:
    """Give a command as a list of commands needs it: with its short help, and perhaps with nothing else.

    :param name: its name.
    :return: as `load`.
    """
    told = _TOLD.get(name)
    for entry in entry_points(group=GROUP, name=name):
        if told is not None and entry.dist is not None and entry.dist.name == _OURS:
            return click.Command(name, short_help=told)
        return load(name)
    return None


def load(name: str) -> click.Command | None:
    """Import a command.

    :param name: its name.
    :return: the command, one that tells why it cannot be imported, or None where there is none of that name.
    """
    for entry in entry_points(group=GROUP, name=name):
        try:
            found = entry.load()
        except (Exception, SystemExit) as error:
            return _broken(entry, f"{type(error).__name__}: {error}", error)
        if isinstance(found, click.Command):
            return found
        return _broken(entry, f"it is a {type(found).__name__}, not a click command", None)
    return None


def _broken(entry: EntryPoint, why: str, cause: BaseException | None) -> click.Command:
    package = "" if entry.dist is None else f" of the package {entry.dist.name!r}"

    def fail() -> None:
        raise Failure(f"the command {entry.name!r}{package} cannot be loaded from {entry.value!r}: {why}") from cause

    return click.Command(
        entry.name,
        callback=fail,
        short_help="(broken: call it to see why)",
        add_help_option=False,  # whatever stands behind it, the reason is the answer
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
