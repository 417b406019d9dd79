"""Running one watcher in a test, and asking what it did."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, final

import anyio

from asyncstore import Asset, Event, MemoryBackend, Settings, Store, connect

from ..abc import BaseTrigger
from ..harness import Triggerer
from ..watcher import AssetWatcher
from .following import follow_time
from .loop import virtual_clock
from .observing import around_operations, heard, listening
from .recording import Recording

__all__ = ["Watching", "memory_store", "run_watcher", "watched_asset"]

#: Seconds that a wait takes at most where nobody says: virtual ones cost nothing.
_PATIENCE, _VIRTUAL_PATIENCE = 10.0, 30 * 86_400.0


def memory_store(settings: Settings | None = None) -> Store:
    """Give a store in memory, to be entered, whose values expire by the time of the running event loop.

    :param settings: the options; the defaults, without any file or environment, where left out.
    """
    clock = virtual_clock()
    return connect(backend=MemoryBackend(clock=clock), settings=settings or Settings(), clock=clock)


def watched_asset(watcher: AssetWatcher | BaseTrigger, asset: Asset | None = None) -> tuple[Asset, AssetWatcher]:
    """Give an asset with nothing but this watcher, and the watcher.

    :param watcher: the watcher, or its trigger.
    :param asset: the asset; one of its own where left out.
    """
    if not isinstance(watcher, AssetWatcher):
        watcher = AssetWatcher("watcher", watcher)
    asset = asset or Asset("watched")
    made = Asset(asset.explicit_name, asset.explicit_uri, group=asset.group, extra=asset.extra, watchers=[watcher])
    return made, watcher


@final
class Watching:
    """Hold a running watcher and what it did so far. Made by `run_watcher`.

    :ivar store: the store it works on.
    :ivar asset: the watched asset.
    :ivar recording: everything it did.
    """

    def __init__(self, store: Store, asset: Asset, watcher: AssetWatcher) -> None:
        self.store = store
        self.asset = asset
        self.recording = Recording(asyncio.get_running_loop(), asset.name, watcher.name)
        self._triggerer: Triggerer | None = None
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        what = "running" if self.running else "stopped"
        return f"<Watching {self.recording.watcher!r} of {self.asset.name!r}: {what}, {len(self.events)} events>"

    @property
    def running(self) -> bool:
        """Tell whether the watcher is kept running: not stopped, and not done."""
        return self._task is not None and not self._task.done() and not self.recording.done

    @property
    def events(self) -> list[Event]:
        """Return the events that it committed."""
        return self.recording.events

    @property
    def payloads(self) -> list[Any]:
        """Return what its events say."""
        return self.recording.payloads

    @property
    def errors(self) -> list[Exception]:
        """Return what `run` raised."""
        return [failure.error for failure in self.recording.failures]

    async def state(self) -> dict[str, Any]:
        """Read the whole state of the watched asset."""
        accessor = self.store.asset_state[self.asset]
        return await accessor.aget_many(await accessor.akeys())

    async def wait_events(self, count: int, *, timeout: float | None = None) -> list[Event]:
        """Wait until so many events are committed.

        :param count: how many, since the beginning.
        :param timeout: seconds; virtual ones on a `VirtualEventLoop`. Default: 10, or 30 virtual days.
        :return: the events.
        :raises AssertionError: they did not come; says what the watcher did instead.
        """
        await self._wait(lambda: len(self.events) >= count, f"{count} events", timeout)
        return self.events

    async def wait_failures(self, count: int, *, timeout: float | None = None) -> list[Exception]:
        """Wait until `run` has raised so many times; otherwise as `wait_events`.

        :param count: how many, since the beginning.
        :param timeout: seconds.
        :return: the errors.
        """
        await self._wait(lambda: len(self.errors) >= count, f"{count} failures", timeout)
        return self.errors

    async def wait_done(self, *, timeout: float | None = None) -> list[Event]:
        """Wait until `run` has returned; otherwise as `wait_events`.

        :param timeout: seconds.
        :return: the events.
        """
        await self._wait(lambda: not self.running, "it to be done", timeout)
        return self.events

    async def _wait(self, holds: Callable[[], bool], what: str, timeout: float | None) -> None:
        if timeout is None:
            timeout = _PATIENCE if virtual_clock() is None else _VIRTUAL_PATIENCE
        with anyio.move_on_after(timeout):
            while not holds() and self.running:
                await self.recording.changed()
        if self._task is not None and self._task.done():
            self._task.result()
        if not holds():
            why = f"waited {timeout:g} s for {what}" if self.running else f"it ended before {what} came"
            raise AssertionError(f"{why}\n{self.recording}")

    async def stop(self) -> None:
        """Stop as a shutdown does: the commit in hand is finished, `run` is cancelled, `cleanup` is called."""
        task, self._task = self._task, None
        if task is not None and self._triggerer is not None:
            self._triggerer.stop()
            await task

    def start(self) -> None:
        """Start it once it was stopped or is done; does nothing while it runs."""
        if self._task is None or self._task.done():
            self._triggerer = Triggerer(self.store, [self.asset], begin_anew=True)
            self.recording.done = False
            name = f"run_watcher: {self.recording.watcher}"
            self._task = asyncio.create_task(self._triggerer.run(), name=name, context=listening(self.recording))
            self._task.add_done_callback(lambda _: self.recording.tell())

    async def restart(self) -> None:
        """Stop and start it: it goes on from what it kept in its state."""
        await self.stop()
        self.start()


@asynccontextmanager
async def run_watcher(
    watcher: AssetWatcher | BaseTrigger,
    *,
    asset: Asset | None = None,
    store: Store | None = None,
    follow: Sequence[str] = (),
) -> AsyncGenerator[Watching]:
    """Run a watcher under a triggerer for as long as the block lasts, and record what it does.

    ::

        async with run_watcher(Numbers(upto=3)) as watching:
            await watching.wait_done()
        assert watching.payloads == [1, 2, 3]

    On a `VirtualEventLoop` the module of the trigger's class reads virtual time, too.

    :param watcher: the watcher, or its trigger.
    :param asset: the watched asset; its other watchers do not run. Default: `Asset("watched")`.
    :param store: an open store; one in memory by default.
    :param follow: dotted names of other modules that read virtual time.
    :raises InvalidTriggerError: the trigger cannot be run.
    """
    made, tied = watched_asset(watcher, asset)
    kind = type(tied.trigger)
    clock = virtual_clock()
    async with AsyncExitStack() as stack:
        chosen = store if store is not None else await stack.enter_async_context(memory_store())
        watching = Watching(chosen, made, tied)
        if clock is not None:
            stack.enter_context(follow_time(clock, kind.__module__, *follow))
        stack.enter_context(around_operations(chosen.backend, watching.recording.around))
        stack.enter_context(heard(kind))
        watching.start()
        try:
            yield watching
        finally:
            with anyio.CancelScope(shield=True):
                await watching.stop()
