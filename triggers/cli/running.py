"""What the commands that run watchers share: a triggerer that ends on a signal, and what it tells meanwhile."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence

import anyio

from asyncstore import Asset, Event, Store
from asyncstore.cli.failures import Misuse
from asyncstore.cli.output import event_line
from asyncstore.cli.showing import is_terminal

from ..errors import TriggerError
from ..handlers import Handler
from ..harness import Triggerer
from .lines import LineWriter
from .live import LiveCounts

__all__ = ["log_to_stderr", "run_watchers"]


async def run_watchers(
    store: Store, assets: Sequence[Asset], what: str, *, alone: bool, handlers: Sequence[Handler] = ()
) -> None:
    """Run the watchers of assets until they are done, or a signal ends them.

    :param store: the store.
    :param assets: the assets.
    :param what: what is being done, for people who look.
    :param alone: this process is all that wants the events: each is a line on stdout, and a watcher that is done
        begins anew.
    :param handlers: run them, too.
    :raises Misuse: there is nothing to run, or it cannot be run.
    """
    counts = LiveCounts(sys.stderr, what, between=alone and is_terminal())

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


def log_to_stderr(level: int) -> None:
    """Show what watchers tell on stderr.

    :param level: from which level on.
    """
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    logging.getLogger("triggers").setLevel(level)
