"""`asyncstore watch FOLDER`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from asyncstore import Store
from asyncstore.cli.failures import Misuse

from ...sources import FolderTrigger
from ...sources.folder import folder_path
from .kinds import Kind
from .running import name_option, watch_source

__all__ = ["KIND"]


@click.command(short_help="Every complete version of a file in a folder.")
@click.argument("folder")
@click.option("--pattern", default="*", help="Glob for file names; for relative paths where it holds a '/'.")
@click.option("--recursive", is_flag=True, help="Look into subfolders. Links to folders are not followed.")
@click.option("--created-only", is_flag=True, help="Only the first version of each path, no changes.")
@click.option("--new-only", is_flag=True, help="Not the files that are there at the very first start.")
@click.option("--settle", default=1.0, show_default=True, help="Seconds a file must stay unchanged to be complete.")
@click.option("--interval", default=1.0, show_default=True, help="Seconds between looks.")
@name_option("files")
@click.option("--once", is_flag=True, help="End when every file that is there has been recorded.")
@click.pass_context
def folder(
    context: click.Context,
    folder: str,
    pattern: str,
    recursive: bool,
    created_only: bool,
    new_only: bool,
    settle: float,
    interval: float,
    name: str,
    once: bool,
) -> None:
    """Watch FOLDER: every complete version of a file (path, size, modification time) becomes one event.

    The event and the memory of the file are one commit, and then one JSON line on stdout. Kill it at any moment and
    start it again: no event is lost and none is doubled. SIGINT and SIGTERM end it within five seconds.

    A file is complete when two looks, --settle seconds apart, find it with the same size and modification time. A
    program that pauses longer while it writes should write under another name and rename.
    """
    root = _folder(folder)

    def trigger(store: Store) -> FolderTrigger:
        return FolderTrigger(
            root.as_uri(),
            pattern=pattern,
            recursive=recursive,
            created_only=created_only,
            new_only=new_only,
            settle=settle,
            interval=interval,
            exclude=[each.as_uri() for each in _database_files(store)],
            memory=name,
            once=once,
        )

    watch_source(context, trigger, uri=root.as_uri(), name=name, shown=str(root))


def _folder(text: str) -> Path:
    path = folder_path(text)
    if not path.exists():
        raise Misuse(f"folder {text!r} does not exist; create it first: mkdir {text}")
    if not path.is_dir():
        raise Misuse(f"{text!r} is a file, not a folder; watch the folder that holds it")
    if not os.access(path, os.R_OK | os.X_OK):
        raise Misuse(f"folder {text!r} cannot be read; check its permissions")
    return path.resolve()


def _database_files(store: Store) -> list[Path]:
    # The folder may be where the database is, whose files change with every event.
    file = getattr(store.backend, "path", None)
    if not isinstance(file, Path):
        return []
    path = file.resolve()
    return [path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal", "-queue"))]


KIND = Kind("FOLDER", "./inbox", frozenset({"", "file"}), folder)
