"""Running handlers in one process."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import final

import anyio
from anyio import CancelScope

from asyncstore import (
    Asset,
    Capability,
    ConsumerSettings,
    DeliveredEvent,
    Store,
    StoreError,
    TaskContext,
    UnsupportedOperationError,
)

from ..errors import InvalidHandlerError
from ..pacing import jitter_here
from .handler import Handler

__all__ = ["HandlerRunner"]

logger = logging.getLogger("triggers")

#: Seconds between attempts while the store fails: the first, and the longest.
_PAUSE, _LONGEST_PAUSE = 0.2, 10.0


@final
class HandlerRunner:
    """Deliver events to handlers, each as a task of its own, until cancelled.

    ::

        await HandlerRunner(store, [load]).run()

    :param store: an open store.
    :param handlers: what `on_event` made.
    :param settings: leases, limits and delays; default: `[consumers]` of the store.
    :raises InvalidHandlerError: two handlers of one asset share a name, or one begins nowhere.
    :raises UnsupportedOperationError: the backend delivers no events.
    """

    def __init__(self, store: Store, handlers: Sequence[Handler], settings: ConsumerSettings | None = None) -> None:
        backend = store.backend
        if handlers and Capability.CONSUMERS not in backend.capabilities:
            raise UnsupportedOperationError(
                f"{type(backend).__name__} cannot deliver events to handlers: it does not declare Capability.CONSUMERS"
            )
        self._store = store
        self._settings = settings or store.settings.consumers
        self._drain_timeout = store.settings.triggerer.drain_timeout
        self._deadline = math.inf
        self._shields: set[CancelScope] = set()
        self._work: dict[tuple[str, str], tuple[Handler, Asset]] = {}
        for handler in handlers:
            for asset in handler.assets:
                place = (asset.name, handler.name)
                if self._work.setdefault(place, (handler, asset))[0] is not handler:
                    raise InvalidHandlerError(
                        f"two handlers of asset {asset.name!r} are named {handler.name!r}, and would divide its "
                        "events; give one of them another: @on_event(..., name=...)"
                    )
                try:
                    store.events(asset, consumer=handler.name, start=handler.start)
                except (TypeError, ValueError) as error:  # now, and not when it is to run
                    raise InvalidHandlerError(f"{handler!r}: {error}") from error

    async def run(self) -> None:
        """Handle events until cancelled; then finish those in hand, within `[triggerer] drain_timeout`.

        What is not finished by then is cancelled at its `await`, and delivered again. Without handlers it returns.
        """
        if not self._work:
            return
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._drain, name="handlers: drain")
            for handler, asset in self._work.values():
                for _ in range(handler.concurrency):
                    tasks.start_soon(self._follow, handler, asset, name=f"{handler!r}")

    async def _drain(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self._deadline = anyio.current_time() + self._drain_timeout
            for scope in self._shields:
                scope.deadline = self._deadline

    @contextmanager
    def _shield(self) -> Generator[CancelScope]:
        with CancelScope(shield=True, deadline=self._deadline) as scope:
            self._shields.add(scope)
            try:
                yield scope
            finally:
                self._shields.discard(scope)

    async def _follow(self, handler: Handler, asset: Asset) -> None:
        # Outlives every error of the store, for as long as it takes.
        settings = self._settings
        if handler.max_attempts is not None:
            settings = settings.model_copy(update={"max_attempts": handler.max_attempts})
        pause = _PAUSE
        while True:
            consumer = self._store.events(asset, consumer=handler.name, start=handler.start, settings=settings)
            try:
                async with consumer as events:
                    async for event in events:
                        await self._attempt(handler, asset, event)
                        pause = _PAUSE
            except StoreError as error:
                logger.warning("%r: no events yet, tried again in %.1f s: %s", handler, pause, error)
                await anyio.sleep(pause * (jitter_here.get() or random).uniform(0.5, 1.0))
                pause = min(2 * pause, _LONGEST_PAUSE)

    async def _attempt(self, handler: Handler, asset: Asset, event: DeliveredEvent) -> None:
        with self._shield() as shield:
            # The state is cleared here, where it is known that the event does not come again.
            context = TaskContext(self._store.core, handler.scope(event), inlets=[asset], outlets=handler.outlets)
            try:
                async with context:
                    await handler.handle(event, context)
            except Exception as error:
                await event.afail(error)
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if shield.cancel_called or task is None or task.cancelling():
                    raise
                # Nobody cancels: its own code raised it, as a future does that somebody cancelled.
                failure = RuntimeError(f"{handler!r} raised CancelledError, though nobody cancelled it")
                failure.__cause__ = error
                await event.afail(failure)
            else:
                if await event.adone() and self._store.settings.state_store.clear_on_success:
                    await _clear(context)
        if shield.cancelled_caught:
            await anyio.sleep_forever()  # the time to drain is over; here is where the cancellation arrives


async def _clear(context: TaskContext) -> None:
    try:
        await context.task_state.aclear()
    except StoreError as error:
        logger.warning("the state of task %s was not cleared: %s", context.scope.ti_id, error)
