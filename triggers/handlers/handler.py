"""What ties a function to the events of an asset."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, final

from asyncstore import Asset, DeliveredEvent, Start, TaskContext, TaskScope

from ..errors import InvalidHandlerError

__all__ = ["Handler", "on_event"]

_MAX_NAME_BYTES = 250


@final
class Handler:
    """Be a function that handles events; made by `on_event`, and called like the function itself.

    :param function: takes the event, or the event and the task context.
    :param assets: whose events it handles.
    :param name: the consumer's name; with the asset it is the handler's identity.
    :param start: where it begins the first time.
    :param concurrency: how many events one process handles at a time.
    :param max_attempts: after so many failures an event is set aside; None for `[consumers] max_attempts`.
    :param outlets: assets whose state it writes besides.
    :raises InvalidHandlerError: it is no such function, or an argument is wrong.
    """

    def __init__(
        self,
        function: Callable[..., Awaitable[object]],
        assets: Sequence[Asset],
        *,
        name: str | None = None,
        start: Start | None = None,
        concurrency: int = 1,
        max_attempts: int | None = None,
        outlets: Sequence[Asset] = (),
    ) -> None:
        called = getattr(function, "__qualname__", repr(function))
        if not inspect.iscoroutinefunction(function):
            raise InvalidHandlerError(f"@on_event: {called} is no coroutine function; write `async def`")
        self._takes_context = _takes_context(function, called)
        self.function = function
        self.assets = tuple(assets)
        self.name = called if name is None else name
        self.start: Start | None = start
        self.concurrency = concurrency
        self.max_attempts = max_attempts
        self.outlets = tuple(outlets)
        if not self.assets:
            raise InvalidHandlerError(f"@on_event: {called} has no asset; name one: @on_event(orders)")
        for asset in (*self.assets, *self.outlets):
            if not isinstance(asset, Asset):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise InvalidHandlerError(f"@on_event: {called}: an Asset is needed, not {asset!r}")
        self._check(called)
        functools.update_wrapper(self, function)

    def _check(self, called: str) -> None:
        try:
            TaskScope(self.name, "event-1", "on_event")
        except (TypeError, ValueError) as error:
            raise InvalidHandlerError(
                f"@on_event: {called}: a name is 1 to {_MAX_NAME_BYTES} bytes of UTF-8 ({error})"
            ) from error
        most = 0 if self.max_attempts is None else self.max_attempts
        if not _is_whole(self.concurrency) or not _is_whole(most) or self.concurrency < 1 or most < 0:
            raise InvalidHandlerError(
                f"@on_event: {called}: concurrency is an int of at least 1, max_attempts one of at least 0"
            )

    def __repr__(self) -> str:
        return f"<Handler {self.name!r} of {', '.join(asset.name for asset in self.assets)}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Awaitable[object]:
        """Call the function."""
        return self.function(*args, **kwargs)

    def scope(self, event: DeliveredEvent) -> TaskScope:
        """Give the task instance that handles an event: the same for every attempt.

        :param event: the event.
        """
        return TaskScope(self.name, f"event-{event.id}", "on_event")

    async def handle(self, event: DeliveredEvent, context: TaskContext) -> None:
        """Call the function with what it takes.

        :param event: the event.
        :param context: the context of this attempt.
        """
        await (self.function(event, context) if self._takes_context else self.function(event))


def on_event(
    *assets: Asset,
    name: str | None = None,
    start: Start | None = None,
    concurrency: int = 1,
    max_attempts: int | None = None,
    outlets: Sequence[Asset] = (),
) -> Callable[[Callable[..., Awaitable[object]]], Handler]:
    """Have an async function handle the events of assets, each until it is done.

    ::

        @on_event(orders)
        async def load(event, context):
            job = await context.task_state.aget("job")  # None, unless an attempt before stored one

    It takes the event, or the event and a task context with `task_state` and `asset_state`. An event is done when it
    returns; where it raises, the event comes again with growing delays, and after `max_attempts` is set aside.

    :param assets: whose events.
    :param name: the consumer's name; default: the function's. A handler that gets another name begins anew.
    :param start: where it begins the first time: "beginning" (the default), "end", the id of an event, or an aware
        datetime.
    :param concurrency: how many events one process handles at a time.
    :param max_attempts: after so many failures an event is set aside; 0 for never; default: `[consumers] max_attempts`.
    :param outlets: assets whose state it writes besides that of the event's asset.
    :raises InvalidHandlerError: it is no coroutine function, or an argument is wrong.
    """

    def decorate(function: Callable[..., Awaitable[object]]) -> Handler:
        return Handler(
            function,
            assets,
            name=name,
            start=start,
            concurrency=concurrency,
            max_attempts=max_attempts,
            outlets=outlets,
        )

    return decorate


def _is_whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)


def _takes_context(function: Callable[..., object], called: str) -> bool:
    signature = inspect.signature(function)
    for count in (2, 1):
        try:
            signature.bind(*range(count))
        except TypeError:
            continue
        return count == 2
    raise InvalidHandlerError(f"@on_event: {called}{signature} takes (event) or (event, context), nothing else")
