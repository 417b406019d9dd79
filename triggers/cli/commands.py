"""`asyncstore watch` and `asyncstore triggerer`."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import anyio
import click

from asyncstore import Asset, Event, Store
from asyncstore.cli.failures import Misuse
from asyncstore.cli.output import event_line
from asyncstore.cli.running import open_store, run

from ..discovery import discover
from ..errors import TriggerError
from ..handlers import Handler
from ..harness import Triggerer
from ..sources import FolderTrigger
from ..watcher import AssetWatcher
from .lines import LineWriter
from .live import LiveCounts

__all__ = ["triggerer", "watch"]

OnEvent = Callable[[Event], Awaitable[None]]


@click.command(short_help="Watch a folder; one JSON line for every new version of a file.")
@click.argument("folder")
@click.option("--pattern", default="*", help="Glob for file names; for relative paths where it holds a '/'.")
@click.option("--recursive", is_flag=True, help="Look into subfolders. Links to folders are not followed.")
@click.option("--created-only", is_flag=True, help="Only the first version of each path, no changes.")
@click.option("--new-only", is_flag=True, help="Not the files that are there at the very first start.")
@click.option("--settle", default=1.0, show_default=True, help="Seconds a file must stay unchanged to be complete.")
@click.option("--interval", default=1.0, show_default=True, help="Seconds between looks.")
@click.option("--name", default="files", show_default=True, help="Two watchers of one folder need two names.")
@click.option("--once", is_flag=True, help="End when every file that is there has been recorded.")
@click.pass_context
def watch(
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

    async def main() -> None:
        async with open_store(context) as store:
            try:
                trigger = FolderTrigger(
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
            except ValueError as error:
                raise Misuse(str(error)) from error
            asset = Asset(uri=root.as_uri(), watchers=[AssetWatcher(name, trigger)])
            await _run(store, [asset], f"watching {root}", alone=True)

    _log_to_stderr(logging.WARNING)
    run(context, main)


@click.command(short_help="Run the watchers and handlers of a module or file.")
@click.argument("target")
@click.pass_context
def triggerer(context: click.Context, target: str) -> None:
    """Run the watchers of the assets in TARGET, and its handlers; a module (mypackage.assets) or a file (assets.py).

    Found are Asset objects at the top level, alone or in a list, tuple or dict, and functions with @on_event. Each
    watcher is restarted when it raises, from its watermark. Start it on several machines with one PostgreSQL: they
    share the watchers, and take over from one that dies. SIGINT and SIGTERM drain: the commit in hand is finished,
    cleanup() is called, and the others take over.
    """
    try:
        found = discover(target)
    except TriggerError as error:
        raise Misuse(str(error)) from error

    async def main() -> None:
        async with open_store(context) as store:
            await _run(store, found.assets, f"running {target}", alone=False, handlers=found.handlers)

    _log_to_stderr(logging.INFO)
    run(context, main)


async def _run(
    store: Store, assets: Sequence[Asset], what: str, *, alone: bool, handlers: Sequence[Handler] = ()
) -> None:
    counts = LiveCounts(sys.stderr, what)

    async def on_event(event: Event) -> None:
        counts.add(event)
        if alone:
            await writer.write(event_line(event))

    try:
        running = Triggerer(store, assets, handlers=handlers, on_event=on_event, begin_anew=alone)
    except TriggerError as error:
        raise Misuse(str(error)) from error
    writer = LineWriter()
    counts.start()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_stop_on_signal, running, name="watch for signals")
        async with anyio.create_task_group() as writing:
            writing.start_soon(writer.run, name="write events")
            await running.run()
            writer.close()
            # A reader that stalls must not keep the program from ending; the log has the events.
            writing.cancel_scope.deadline = anyio.current_time() + 1.0
        tasks.cancel_scope.cancel()
    counts.stop()


async def _stop_on_signal(running: Triggerer) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        first = True
        async for _ in signals:
            if not first:  # somebody is in a hurry; every commit is whole, so nothing is lost
                os._exit(130)
            running.stop()
            first = False


def _folder(text: str) -> Path:
    path = Path(text)
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


def _log_to_stderr(level: int) -> None:
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    logging.getLogger("triggers").setLevel(level)
