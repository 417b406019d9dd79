"""Keeping one watcher alive."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Hashable
from typing import Any, cast

import anyio
import anyio.lowlevel
from anyio import CancelScope

from asyncstore import (
    Asset,
    AssetNotFoundError,
    ClaimedWatcher,
    Commit,
    JsonValue,
    Lease,
    LeaseLostError,
    StoreBusyError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
    WatcherOrder,
    WatcherState,
)

from ..abc import BaseEventTrigger, BaseTrigger, arguments_text
from ..cancelling import nobody_cancels
from ..errors import InvalidTriggerError
from ..events import TriggerEvent
from ..pacing import Backoff
from ..poison import Items
from ..streams.hub import key_of
from ..watcher import AssetWatcher
from .surroundings import Surroundings

__all__ = ["Supervisor"]

logger = logging.getLogger("triggers")

#: Where watchers rest until somebody restarts them.
_RESTED = (WatcherState.DONE, WatcherState.KILLED, WatcherState.PAUSED)
#: Seconds that the last report of a watcher may take.
_SETTLING = 1.0
#: What passes: tried again, without resuming the generator, for as long as it takes.
_TRANSIENT = (StoreBusyError, StoreFullError, StoreUnavailableError)


class Supervisor:
    """Run one watcher under a claim, commit its events, and start it again when it raises.

    :param around: what it shares with its siblings.
    :param asset: the watched asset.
    :param watcher: its watcher.
    """

    __slots__ = (
        "_arguments",
        "_around",
        "_asked",
        "_backoff",
        "_claimed",
        "_failures",
        "_finished",
        "_killed",
        "_restarted_at",
        "_scope",
        "_stopping",
        "asset",
        "left",
        "lost",
        "state",
        "task",
        "vanished",
        "watcher",
    )

    def __init__(self, around: Surroundings, asset: Asset, watcher: AssetWatcher) -> None:
        self._around = around
        self.asset = asset
        self.watcher = watcher
        self._arguments: str | None = None
        self._asked: WatcherOrder | None = None
        self._backoff: Backoff | None = None
        self._claimed: ClaimedWatcher | None = None
        self._failures = 0
        self._finished = False
        self._killed = False
        self._restarted_at = float("-inf")
        self._scope: CancelScope | None = None
        self._stopping = False
        #: What the watcher is doing here; None where it is not run here.
        self.state: WatcherState | None = None
        #: The state it is to be left in, once it is run here no more.
        self.left: WatcherState | None = None
        #: Its claim was lost: there is nothing to give back.
        self.lost = False
        #: Its asset may have been deleted.
        self.vanished = False
        #: What runs it.
        self.task: asyncio.Task[None] | None = None

    def __str__(self) -> str:
        return f"watcher {self.watcher.name!r} of asset {self.asset.name!r}"

    def fresh(self) -> BaseTrigger:
        """Make the trigger anew from its arguments.

        :raises InvalidTriggerError: the arguments are not JSON, do not make a trigger, or `run` is no generator.
        """
        if self._arguments is None:
            self._arguments = arguments_text(self.watcher.trigger)
        arguments = json.loads(self._arguments)
        kind = type(self.watcher.trigger)
        try:
            made = kind(**arguments)
        except Exception as error:
            raise InvalidTriggerError(
                f"{self}: {kind.__qualname__} cannot be made from its own arguments ({', '.join(arguments)}): "
                f"{type(error).__name__}: {error}"
            ) from error
        return made

    @property
    def _shares(self) -> bool:
        kind = type(self.watcher.trigger)
        return issubclass(kind, BaseEventTrigger) and kind.shared_stream_key is not BaseEventTrigger.shared_stream_key

    @property
    def together(self) -> Hashable | None:
        """Return what is equal for those that must run in one process; None where that does not matter.

        Those of one stream that is acknowledged: it is, for all of them at once.
        """
        kind = type(self.watcher.trigger)
        if not issubclass(kind, BaseEventTrigger) or not self._shares:
            return None
        if kind.create_shared_stream_producer == BaseEventTrigger.create_shared_stream_producer:
            return None
        try:
            return key_of(self.fresh())
        except Exception as error:  # its attempt will raise the same, and back off
            logger.warning("%s cannot say which stream it shares", self, exc_info=error)
            return None

    @property
    def _place(self) -> tuple[str, str]:
        return self.asset.name, self.watcher.name

    @property
    def is_stopping(self) -> bool:
        """Tell whether it was asked to stop."""
        return self._stopping

    # What others ask; from the loop's thread.

    def expect(self) -> None:
        """Have shared streams wait for what this watcher will answer; before any that shares one is started."""
        if self._shares:
            self._around.streams.expect(self._place, self.fresh())

    def retire(self) -> None:
        """Have shared streams wait no more: the watcher will not be started after all."""
        if self._shares:
            self._around.streams.retire(self._place, elsewhere=True)

    def prepare(self) -> None:
        """Get ready for a new claim; what is asked from now on concerns that."""
        if self.left in _RESTED:
            self._backoff, self._failures = None, 0
        self._asked, self._stopping, self._killed = None, False, False
        self.left, self.lost, self.vanished, self._finished = None, False, False, False
        self.state = WatcherState.RUNNING

    def stop(self) -> None:
        """Have the watcher stop: the commit in hand is finished, then it cleans up."""
        self._stopping = True
        self._cancel()

    def abandon(self) -> None:
        """Have the watcher stop, for its claim is lost."""
        self.lost = True
        self.stop()

    def order(self, order: WatcherOrder, since: float) -> None:
        """Do what somebody asks.

        :param order: pause, restart or kill.
        :param since: when the store was asked for it, by `anyio.current_time()`.
        """
        if order is WatcherOrder.RESTART and since < self._restarted_at:
            return  # this was it
        if self._asked is None or (order is WatcherOrder.KILL and self._asked is not order):
            self._asked = order
            logger.info("%s: somebody asked to %s it", self, order)
            self._cancel()

    def _cancel(self) -> None:
        if self._scope is not None:
            self._scope.cancel()

    # Running.

    async def supervise(self, lease: Lease) -> None:
        """Run the watcher until it is done, its claim is lost, or it was asked to stop; then `left` is set.

        :param lease: the claim.
        """
        self._claimed = claimed = ClaimedWatcher(self._around.store.core, self.asset, lease)
        try:
            while not self._is_over:
                # Its own, so that a commit in hand can be shielded from it.
                with CancelScope() as self._scope:
                    if self._stopping or self._asked is not None:
                        self._cancel()
                    await self._keep_alive(claimed)
                if not self._is_over:
                    await self._stopped(claimed)
        except Exception as error:
            logger.critical("%s ended by an error of the triggerer's own", self, exc_info=error)
        finally:
            try:
                if not self.lost:
                    with self._around.drain.shield(_SETTLING):
                        await self._around.reports.settle(claimed)
            finally:
                self._end(lease)

    def _end(self, lease: Lease) -> None:
        self._scope = self._claimed = self.state = self.task = None
        try:
            if self._shares:
                self._around.streams.retire(self._place, elsewhere=not self._finished)
        finally:
            self._around.ended(self, lease)

    @property
    def _is_over(self) -> bool:
        return self.left is not None or self.lost

    async def _stopped(self, claimed: ClaimedWatcher) -> None:
        # A stop comes before what somebody asks: whoever runs the watcher next does that.
        asked = self._asked
        if self.lost:
            return
        if asked is WatcherOrder.KILL:
            await self._kill(claimed)
            self.left = WatcherState.KILLED
        elif self._stopping:
            self.left = WatcherState.WAITING
        elif asked is WatcherOrder.PAUSE:
            self.left = WatcherState.PAUSED
        else:
            self._backoff, self._failures = None, 0
            self.state = WatcherState.RUNNING
            with self._around.drain.shield(self._around.settings.drain_timeout):
                try:
                    await self._around.store.backend.fleet.arestarted(claimed.lease)
                except StoreError as error:
                    logger.warning("the restart of %s could not be kept: %s", self, error)
            self._asked, self._restarted_at = None, anyio.current_time()

    async def _keep_alive(self, claimed: ClaimedWatcher) -> None:
        while True:
            started = anyio.current_time()
            try:
                await self._attempt(claimed)
            except asyncio.CancelledError as error:
                if self._scope is None or self._scope.cancel_called or not nobody_cancels():
                    raise
                # Nobody cancels: its own code raised it, as a future does that somebody cancelled.
                failure = InvalidTriggerError(f"{self} raised CancelledError, though nobody cancelled it")
                failure.__cause__ = error
                await self._back_off(claimed, failure, anyio.current_time() - started)
                self._report(claimed, WatcherState.RUNNING, restarts=1)
            except LeaseLostError as error:
                self.lost = True
                logger.error("%s stops: %s", self, error)
                self._around.suspect()
                return
            except BaseException as error:
                if not _is_failure(error):
                    raise
                await self._back_off(claimed, error, anyio.current_time() - started)
                if isinstance(error, AssetNotFoundError):  # perhaps its own, and the claim with it
                    self.vanished, self.left = True, WatcherState.WAITING
                    return
                self._report(claimed, WatcherState.RUNNING, restarts=1)
            else:
                if self._stopping or self._asked is not None:
                    return  # it was cancelled, and returned for that
                logger.info("%s is done", self)
                self.left, self._finished = WatcherState.DONE, True
                return

    async def _back_off(self, claimed: ClaimedWatcher, error: BaseException, ran_for: float) -> None:
        settings = self._around.settings
        if self._backoff is None:
            self._backoff = Backoff(settings.restart_delay, settings.restart_delay_max, settings.healthy_after)
        delay = self._backoff.next(ran_for)
        healthy = bool(settings.healthy_after) and ran_for >= settings.healthy_after
        self._failures = 1 if healthy else self._failures + 1
        logger.error("%s failed and is started again in %.1f s", self, delay, exc_info=error)
        looping = self._failures >= settings.crash_loop_after
        self._report(claimed, WatcherState.CRASH_LOOPING if looping else WatcherState.BACKING_OFF, error)
        await anyio.sleep(delay)

    def _report(
        self, claimed: ClaimedWatcher, state: WatcherState, error: BaseException | None = None, *, restarts: int = 0
    ) -> None:
        self.state = state
        self._around.reports.add(claimed, state, error, restarts=restarts)

    async def _attempt(self, claimed: ClaimedWatcher) -> None:
        trigger = self._bound(claimed)
        events: AsyncIterator[TriggerEvent] | None = None
        try:
            if self._shares:
                arguments: dict[str, JsonValue] = json.loads(self._arguments or "{}")
                events = self._around.streams.events_of(self._place, trigger, arguments)
            else:
                events = trigger.run()
            await self._follow(claimed, events)
        finally:
            with self._around.drain.shield(self._around.settings.drain_timeout):
                close = getattr(events, "aclose", None)
                try:
                    if close is not None:
                        await close()
                finally:
                    try:
                        if self._asked is WatcherOrder.KILL and not self.lost:
                            await self._on_kill(trigger)
                    finally:
                        await trigger.cleanup()

    def _bound(self, claimed: ClaimedWatcher) -> BaseTrigger:
        trigger = self.fresh()
        if isinstance(trigger, BaseEventTrigger):
            poison = self.watcher.poison
            state = claimed.asset_state
            trigger.bind(self.asset, state, None if poison is None else Items(state, self.watcher.name, poison))
        return trigger

    async def _kill(self, claimed: ClaimedWatcher) -> None:
        if self._killed:
            return
        # It was waiting for its next attempt.
        with self._around.drain.shield(self._around.settings.drain_timeout):
            try:
                trigger = self._bound(claimed)
                await self._on_kill(trigger)
                await trigger.cleanup()
            except Exception as error:
                logger.error("%s: its cleanup() failed", self, exc_info=error)

    async def _on_kill(self, trigger: BaseTrigger) -> None:
        self._killed = True
        try:
            await trigger.on_kill()
        except Exception as error:
            logger.error("%s: its on_kill() failed", self, exc_info=error)

    # Events.

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
        drain, on_event = self._around.drain, self._around.on_event
        patience = _Patience(str(self))
        while True:
            try:
                # A commit in hand is finished, even when the triggerer drains: given up half-way nobody would know
                # whether it happened, and it must not be tried again then.
                with drain.shield() as shield:
                    event, duplicate = await claimed.acommit(commit)
                break
            except _TRANSIENT as error:
                await patience.wait(error)
        if shield.cancelled_caught:
            await anyio.sleep_forever()  # the time to drain is over; here is where the cancellation arrives
        if on_event is not None and not duplicate:
            with drain.shield():
                await on_event(event)
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


def _is_failure(error: BaseException) -> bool:
    # Of a watcher, whatever its code and its libraries raise; the rest is how tasks and programs are ended.
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_failure, cast("BaseExceptionGroup[BaseException]", error).exceptions))
    return not isinstance(error, asyncio.CancelledError | GeneratorExit | KeyboardInterrupt | SystemExit)
