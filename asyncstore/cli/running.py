"""What commands share, those of other packages too: the global options, the store, and how coroutines are run."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from ..settings import Settings, load_settings
from ..store import Store, connect
from .failures import Interrupted, translated

__all__ = [
    "GlobalOptions",
    "import_from_here",
    "open_store",
    "options_of",
    "overrides_of",
    "run",
    "see_through",
    "settings_of",
    "settings_with",
    "writer",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class GlobalOptions:
    """Hold what stands before the name of the command.

    :ivar database: the metastore; None for the configured one.
    :ivar config: the settings file; None for the usual one.
    :ivar debug: show tracebacks.
    """

    database: str | None = None
    config: Path | None = None
    debug: bool = False


def options_of(ctx: click.Context) -> GlobalOptions:
    """Give the global options; the defaults where the command is called on its own.

    :param ctx: the context of the command.
    """
    return ctx.find_object(GlobalOptions) or GlobalOptions()


def settings_of(ctx: click.Context) -> Settings:
    """Read the settings: the file, the environment, and the global options over both.

    `--database` asks for the metastore, whatever backend is configured.

    :param ctx: the context of the command.
    :raises ConfigurationError: an option is unknown, or has a value that is not allowed.
    """
    return settings_with(options_of(ctx))


def settings_with(options: GlobalOptions) -> Settings:
    """Read the settings as `settings_of` does, with global options at hand."""
    return load_settings(path=options.config, overrides=overrides_of(options))


def overrides_of(options: GlobalOptions) -> dict[str, object]:
    """Give the options that the global options stand for, by their names as arguments."""
    return {} if options.database is None else {"database.url": options.database, "state_store.backend": None}


def open_store(ctx: click.Context) -> Store:
    """Give the store of the global options, to be entered with `async with`.

    A backend of the user's own is looked for in the working directory too, which is where its settings are.

    :param ctx: the context of the command.
    :raises ConfigurationError: as `settings_of`.
    """
    settings = settings_of(ctx)
    import_from_here(settings)
    return connect(settings=settings)


def import_from_here(settings: Settings) -> None:
    """Have a backend of the user's own be looked for in the working directory, too."""
    here = str(Path.cwd())
    named = settings.state_store.backend or settings.workers.backend
    if named is not None and not sys.flags.safe_path and here not in sys.path:
        sys.path.append(here)  # last, so that nothing here hides an installed module


def run(ctx: click.Context, function: Callable[..., Coroutine[Any, Any, T]], *args: Any, **options: Any) -> T:
    """Run a coroutine function on an event loop of its own, and turn its errors into what the user is told.

    Ctrl-C cancels it, as `asyncio.run` does.

    :param ctx: the context of the command.
    :param function: called with the rest of the arguments.
    :return: what it returns.
    :raises Failure: the operation failed.
    :raises Misuse: wrong usage or configuration, `ValueError` and `TypeError` among it.
    :raises Interrupted: Ctrl-C.
    """

    async def main() -> T:
        with _woken_by_signals():
            return await function(*args, **options)

    with translated(debug=options_of(ctx).debug):
        return asyncio.run(main())


async def see_through(work: Coroutine[Any, Any, T], what: str) -> T:
    """Await what changes the store, so that who interrupts it hears what became of it.

    :param work: the change: wholly or not at all.
    :param what: what it does, such as "the keys were deleted".
    :raises Interrupted: Ctrl-C; once the work is done, unless it comes twice.
    """
    task = asyncio.create_task(work, name="change")
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if task.cancelled():
            raise
        click.echo("ending with what has begun; Ctrl-C again does not wait for it", err=True)
        await asyncio.wait([task])
        error = task.exception()
        if error is not None:
            raise error from None
        raise Interrupted(f"interrupted, but {what} before") from None


def writer() -> str:
    """Give the name under which this program writes: `cli:` with the user and the machine."""
    import getpass

    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container has perhaps no such user
        user = "unknown"
    return f"cli:{user}@{socket.gethostname()}"


@contextmanager
def _woken_by_signals() -> Generator[None]:
    """Have each signal wake the event loop.

    `asyncio.run` cancels its task on SIGINT, but a signal that comes when the loop is just about to wait does not end
    the wait, and is heard when the next thing happens, which may be never.
    """
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield  # there the loop does it by itself; elsewhere no signal arrives
        return
    loop = asyncio.get_running_loop()
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        loop.add_reader(reader, reader.recv, 4096)
        before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            loop.remove_reader(reader)
