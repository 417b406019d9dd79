"""Keeping one watcher alive."""

from __future__ import annotations

import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel

from asyncstore import (
    Asset,
    AssetNotFoundError,
    ClaimedWatcher,
    Commit,
    Event,
    LeaseLostError,
    Store,
    StoreBusyError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
    TriggererSettings,
    WatcherState,
)

from ..abc import BaseEventTrigger, BaseTrigger, arguments_of
from ..errors import InvalidTriggerError
from ..events import TriggerEvent
from ..streams.hub import StreamHub
from ..watcher import AssetWatcher
from .backoff import Backoff
from .drain import Drain

__all__ = ["Supervisor"]

logger = logging.getLogger("triggers")

#: What passes: tried again, without resuming the generator, for as long as it takes.
_TRANSIENT = (StoreBusyError, StoreFullError, StoreUnavailableError)


class Supervisor:
    """Claim one watcher, run it, commit its events, and start it again when it raises.

    :param store: the store.
    :param asset: the watched asset.
    :param watcher: its watcher.
    :param owner: who claims, for people.
    :param settings: delays and deadlines.
    :param drain: what shields a commit, and for how long.
    :param streams: where watchers share their sources.
    :param on_event: awaited after each commit of a new event.
    """

    def __init__(
        self,
        store: Store,
        asset: Asset,
        watcher: AssetWatcher,
        *,
        owner: str,
        settings: TriggererSettings,
        drain: Drain,
        streams: StreamHub,
        on_event: Callable[[Event], Awaitable[None]] | None,
    ) -> None:
        self._store = store
        self._asset = asset
        self._watcher = watcher
        self._owner = owner
        self._settings = settings
        self._drain = drain
        self._streams = streams
        self._on_event = on_event
        #: What the watcher is doing; None before it is claimed.
        self.state: WatcherState | None = None
        self._done = False
        #: Another process claimed the watcher.
        self.lost = False

    def __str__(self) -> str:
        return f"watcher {self._watcher.name!r} of asset {self._asset.name!r}"

    @property
    def identity(self) -> tuple[str | None, str]:
        """Return what the watcher is known by: its asset and its name."""
        return self._asset.name, self._watcher.name

    def expect(self) -> None:
        """Count the watcher among those that answer what a shared stream gives out from now on."""
        self._streams.expect(self.identity, self.fresh())

    def fresh(self) -> BaseTrigger:
        """Make the trigger anew from its arguments.

        :raises InvalidTriggerError: the arguments are not JSON, do not make a trigger, or `run` is no generator.
        """
        trigger = self._watcher.trigger
        arguments = arguments_of(trigger)
        kind = type(trigger)
        try:
            made = kind(**arguments)
        except Exception as error:
            raise InvalidTriggerError(
                f"{self}: {kind.__qualname__} cannot be made from its own arguments {arguments!r}: "
                f"{type(error).__name__}: {error}"
            ) from error
        return made

    async def supervise(self) -> None:
        """Run the watcher until it is done, another process claims it, or the caller cancels."""
        backoff = Backoff(self._settings.restart_delay, self._settings.restart_delay_max, self._settings.healthy_after)
        claimed = await self._claim(backoff)
        self.state = WatcherState.RUNNING
        try:
            while True:
                started = anyio.current_time()
                try:
                    await self._attempt(claimed)
                except LeaseLostError as error:
                    self.lost = True
                    logger.error("%s stops: %s", self, error)
                    return
                except Exception as error:
                    delay = backoff.next(anyio.current_time() - started)
                    logger.error("%s failed and is started again in %.1f s", self, delay, exc_info=error)
                    await self._report(claimed, WatcherState.BACKING_OFF, error)
                    await anyio.sleep(delay)
                    if isinstance(error, AssetNotFoundError):  # deleted, and the claim with it; still declared here
                        claimed = await self._claim(backoff)
                    await self._report(claimed, WatcherState.RUNNING, restarted=True)
                else:
                    logger.info("%s is done", self)
                    self._done = True
                    await self._report(claimed, WatcherState.DONE)
                    return
        finally:
            if self._done or self.lost:
                self._streams.retire(self.identity, elsewhere=self.lost)
            else:
                with self._drain.shield(self._settings.drain_timeout):
                    await self._report(claimed, WatcherState.STOPPED)

    async def _claim(self, backoff: Backoff) -> ClaimedWatcher:
        while True:
            try:
                return await self._store.aclaim_watcher(self._asset, self._watcher.name, owner=self._owner)
            except StoreError as error:
                delay = backoff.next()
                logger.warning("%s could not be claimed and is tried again in %.1f s: %s", self, delay, error)
                await anyio.sleep(delay)

    async def _report(
        self, claimed: ClaimedWatcher, state: WatcherState, error: Exception | None = None, *, restarted: bool = False
    ) -> None:
        self.state = state
        text = None if error is None else "".join(traceback.format_exception(error))
        try:
            await claimed.areport(state, error=text, restarted=restarted)
        except StoreError as failure:
            logger.warning("the state of %s (%s) could not be kept: %s", self, state, failure)

    async def _attempt(self, claimed: ClaimedWatcher) -> None:
        trigger = self.fresh()
        if isinstance(trigger, BaseEventTrigger):
            trigger.bind(self._asset, claimed.asset_state)
        events = self._streams.events_of(self.identity, trigger, arguments_of(trigger))
        try:
            await self._follow(claimed, events)
        finally:
            with self._drain.shield(self._settings.drain_timeout):
                close = getattr(events, "aclose", None)
                try:
                    if close is not None:
                        await close()
                finally:
                    await trigger.cleanup()

    async def _follow(self, claimed: ClaimedWatcher, events: AsyncIterator[TriggerEvent]) -> None:
        try:
            event: Any = await anext(events)
            while True:
                try:
                    commit = await self._prepare(claimed, event)
                except (TypeError, ValueError) as error:
                    throw = getattr(events, "athrow", None)
                    if throw is None:
                        raise
                    event = await throw(error)  # at the yield; the generator may go on
                    continue
                await self._commit(claimed, commit)
                event = await anext(events)
        except StopAsyncIteration:
            return

    async def _prepare(self, claimed: ClaimedWatcher, event: object) -> Commit:
        if not isinstance(event, TriggerEvent):
            raise InvalidTriggerError(f"{self} yielded {event!r}; it should yield TriggerEvent(payload, ...)")
        patience = _Patience(str(self))
        while True:
            try:
                return await claimed.prepare(event.payload, event.key, event.checkpoint)
            except _TRANSIENT as error:
                await patience.wait(error)

    async def _commit(self, claimed: ClaimedWatcher, commit: Commit) -> None:
        patience = _Patience(str(self))
        while True:
            try:
                # A commit in hand is finished, even when the triggerer drains: given up half-way nobody would know
                # whether it happened, and it must not be tried again then.
                with self._drain.shield() as shield:
                    event, duplicate = await claimed.acommit(commit)
                break
            except _TRANSIENT as error:
                await patience.wait(error)
        if shield.cancelled_caught:
            await anyio.sleep_forever()  # the time to drain is over; here is where the cancellation arrives
        if self._on_event is not None and not duplicate:
            with self._drain.shield():
                await self._on_event(event)
        # Behind the shield, a cancellation finds a watcher that never waits for anything itself, and its siblings
        # get their turn.
        await anyio.lowlevel.checkpoint()


class _Patience:
    """Wait between two attempts at what a passing failure of the database keeps from happening."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._backoff: Backoff | None = None

    async def wait(self, error: StoreError) -> None:
        """Say what is wrong, and wait a little longer each time."""
        self._backoff = self._backoff or Backoff(0.1, 5.0)
        delay = self._backoff.next()
        logger.warning("%s: no commit yet, tried again in %.1f s: %s", self._what, delay, error)
        await anyio.sleep(delay)
