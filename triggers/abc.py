"""The extension point of triggers: what a watcher's author writes."""

from __future__ import annotations

import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import lru_cache
from typing import Any, ClassVar, Self, cast

from asyncstore import Asset, AssetStoreAccessors, JsonValue, StoreError

from .errors import InvalidTriggerError
from .events import TriggerEvent
from .poison import Items
from .streams.alone import events_alone
from .streams.records import AdvanceItem
from .streams.source import Source

__all__ = ["BaseEventTrigger", "BaseTrigger", "SharedStreamProducer"]


class BaseTrigger(ABC):
    """Watch something and yield events, for as long as it is there.

    A trigger is made anew for every start and restart, from the arguments that `serialize` gives, so nothing that
    an attempt left in its attributes outlives it. What must outlive it belongs into the state.
    """

    _arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Remember the arguments, for `serialize`."""
        trigger = super().__new__(cls)
        trigger._arguments = (args, kwargs)
        return trigger

    @abstractmethod
    def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield events, as an async generator: an `async def` with a `yield` in it.

        It is resumed after a `yield` when the event is committed. Where it raises, it is started again after a
        while; where it returns, the watcher is done. It is cancelled at an `await` when the process shuts down.
        """

    def serialize(self) -> tuple[str, dict[str, JsonValue]]:
        """Give the dotted path of the class and the keyword arguments that make an equal trigger.

        The default takes the arguments that the trigger was made with.

        :return: `package.module.Class` and JSON values by argument.
        :raises InvalidTriggerError: the arguments cannot be given by keyword.
        """
        args, kwargs = self._arguments
        kind = type(self)
        try:
            bound = _signature(kind).bind(*args, **kwargs)
        except (TypeError, ValueError) as error:
            raise InvalidTriggerError(f"{kind.__qualname__}: {error}; override serialize()") from error
        arguments: dict[str, JsonValue] = {}
        for name, value in bound.arguments.items():
            parameter = bound.signature.parameters[name].kind
            if parameter is inspect.Parameter.VAR_KEYWORD:
                arguments.update(value)
            elif parameter in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY):
                raise InvalidTriggerError(
                    f"{kind.__qualname__}: argument {name!r} cannot be given by keyword; override serialize()"
                )
            else:
                arguments[name] = value
        return f"{kind.__module__}.{kind.__qualname__}", arguments

    async def cleanup(self) -> None:  # noqa: B027 - optional
        """Let go of what `run` holds; called on every exit: return, error, shutdown, lost lease."""

    async def on_kill(self) -> None:  # noqa: B027 - optional
        """End what `run` has begun elsewhere, such as a job; called before `cleanup`, and only when a person kills it.

        A shutdown, a redeploy or another triggerer that takes over never calls it.
        """


class BaseEventTrigger(BaseTrigger):
    """Watch an asset with its state at hand.

    ::

        class NewOrders(BaseEventTrigger):
            async def run(self):
                since = await self.asset_state.aget("watermark", 0)
                async for order in orders_after(since):
                    yield TriggerEvent(order.data, checkpoint={"watermark": order.id})

    A plain `aset` before or after a `yield` commits on its own: a crash between the two loses the event or doubles
    it. What belongs to the event goes into its `checkpoint`.

    Watchers of one class whose `shared_stream_key` is equal share one `open_shared_stream`, each through its own
    `filter_shared_stream`, and need no `run`.
    """

    #: Every raw event of the shared stream tells all there is (a whole listing), so that a later one stands for those
    #: before it: whoever joins begins at the latest one, and whoever is slow skips to it.
    shared_stream_snapshots: ClassVar[bool] = False

    _asset: Asset | None = None
    _asset_state: AssetStoreAccessors | None = None
    _items: Items | None = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Refuse a class that watches nothing, and remember the arguments."""
        if cls.run is BaseEventTrigger.run and cls.filter_shared_stream is BaseEventTrigger.filter_shared_stream:
            raise TypeError(f"{cls.__qualname__} defines neither run() nor filter_shared_stream()")
        return super().__new__(cls, *args, **kwargs)

    def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield events, as `BaseTrigger.run` says; without sharing, where only the shared hooks are defined.

        :raises InvalidTriggerError: the arguments are not JSON, or a hook is no async generator.
        """
        return events_alone(self, source_of(self, arguments_of(self)))

    @property
    def asset(self) -> Asset:
        """Return the watched asset, from the start of `run` on.

        :raises StoreError: no triggerer runs this trigger.
        """
        if self._asset is None:
            raise StoreError("self.asset is there from the start of run(), in a trigger that a triggerer runs")
        return self._asset

    @property
    def asset_state(self) -> AssetStoreAccessors:
        """Return the state of assets: `self.asset_state[asset]`, or the watched one's without subscript.

        :raises StoreError: no triggerer runs this trigger.
        """
        if self._asset_state is None:
            raise StoreError("self.asset_state is there from the start of run(), in a trigger that a triggerer runs")
        return self._asset_state

    def bind(self, asset: Asset, asset_state: AssetStoreAccessors, items: Items | None = None) -> None:
        """Tie the trigger to what it watches; for whoever runs it.

        :param asset: the watched asset.
        :param asset_state: the state of assets.
        :param items: counts the failures of items; None where nobody does.
        """
        self._asset = asset
        self._asset_state = asset_state
        self._items = items

    def item(self, key: str) -> AbstractAsyncContextManager[None]:
        """Say which item of the source is handled in a block, so that one that always fails does not stop the others.

        ::

            async for order in orders_after(since):
                async with self.item(order.id):
                    yield TriggerEvent(parse(order), checkpoint={"watermark": order.id})

        What the block raises ends the attempt as ever, and counts against the item, also across restarts. With
        `AssetWatcher(..., poison=Poison(attempts=5))` the fifth failure is swallowed instead, the item is set aside
        with its traceback, and the loop goes on with the next one. Without a policy the block does nothing. Errors of
        the store count against no item.

        :param key: names the item for this watcher, whenever it comes again.
        """
        return nullcontext() if self._items is None else self._items.handling(key)

    def shared_stream_key(self) -> Hashable | None:
        """Name the stream that this watcher shares with others of its class; None, the default, shares nothing.

        Everything that `open_shared_stream` reads of the arguments belongs into the key. It is asked once per start.
        """
        return None

    @classmethod
    def open_shared_stream(cls, kwargs: dict[str, JsonValue]) -> AsyncIterator[Any]:
        """Yield the raw events that all subscribers get, as an async generator; never change a yielded one.

        It is opened once for all, and for a subscriber alone that must catch up. Opened anew, it yields again what
        is there, from the beginning or after the position `kwargs["shared_stream_since"]` where that is given. Where
        it raises, every subscriber's stream raises; where it returns, their streams end.

        :param kwargs: the arguments of one of the watchers, and a position where the class has positions.
        """
        raise InvalidTriggerError(f"{cls.__qualname__} has a shared_stream_key() and no open_shared_stream()")

    def filter_shared_stream(self, stream: AsyncIterator[Any]) -> AsyncIterator[TriggerEvent]:
        """Yield this watcher's events from the raw events, as an async generator.

        What it yields is committed as what `run` yields is. It begins at its watermark and drops what that says it
        has seen; behind a producer it yields that again with the same `key`, for to pass over it is to reject it. All
        events of a raw event are yielded before
        the next one is asked for.

        :param stream: the raw events; it may begin with those that were seen before.
        """
        raise InvalidTriggerError(f"{type(self).__qualname__} has a shared_stream_key() and no filter_shared_stream()")

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, JsonValue]) -> SharedStreamProducer | None:
        """Make the acknowledging source of the stream; None, the default, where `open_shared_stream` is the source.

        :param kwargs: the arguments of one of the watchers.
        """
        return None

    @classmethod
    def shared_stream_position(cls, raw: Any) -> Any:
        """Say where in the stream a raw event is: greater for a later one, so that a late or slow one can rejoin.

        Positions are compared with `<` and never None. What does not go forward is taken for a repetition and
        dropped. Without positions nobody can tell where two readers of the source are, so whoever is late or too slow
        reads a source opened anew, with those who come after it, and never rejoins the others while that lasts.

        :param raw: the raw event.
        """
        raise NotImplementedError

    async def shared_stream_since(self) -> Any:
        """Give the position up to which this watcher has committed (its watermark); None for the beginning.

        It is asked at each start, where the class has positions, and makes catching up cheap.
        """
        return None


class SharedStreamProducer(ABC):
    """Be the broker's side of an acknowledging stream, for as long as one connection lives.

    Nothing is acknowledged before every event derived from it is committed. After an error of `open_stream` or
    `advance`, and after a crash, what was not advanced is expected again from the broker.
    """

    @abstractmethod
    def open_stream(self) -> AsyncIterator[tuple[Any, Any]]:
        """Connect, and yield `(raw_event, receipt)`, as an async generator; called once.

        A receipt is whatever `advance` needs. It is resumed when a subscriber asks for more.
        """

    @abstractmethod
    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Acknowledge, redeliver or dead-letter what every subscriber has answered; `AdvanceItem.verdict` suggests.

        The items of a batch are of one lane, in the order of the stream, without a gap between batches. Calls for one
        lane follow each other; those for different lanes may overlap. Where it raises, the connection is given up.

        :param batch: never empty.
        """

    def get_advance_lane(self, receipt: Any) -> Hashable:
        """Say in which lane (a partition, say) a raw event is; by default all are in one.

        :param receipt: what was yielded with the raw event. It must be quick and must not block.
        """
        return None

    async def aclose(self) -> None:  # noqa: B027 - optional
        """Disconnect; called once, whatever happened."""


@lru_cache(maxsize=256)
def _signature(kind: type[BaseTrigger]) -> inspect.Signature:
    return inspect.signature(kind)


def arguments_of(trigger: BaseTrigger) -> dict[str, JsonValue]:
    """Give a trigger's arguments as they come back from JSON.

    :param trigger: the trigger.
    :raises InvalidTriggerError: as `arguments_text`.
    """
    return cast("dict[str, JsonValue]", json.loads(arguments_text(trigger)))


def arguments_text(trigger: BaseTrigger) -> str:
    """Give a trigger's arguments as JSON.

    :param trigger: the trigger.
    :raises InvalidTriggerError: they are not JSON; says which, and what to do.
    """
    path, arguments = trigger.serialize()
    for name, value in arguments.items():
        try:
            _check_json(value)
        except (TypeError, ValueError) as error:
            raise InvalidTriggerError(
                f"{path}: argument {name!r} is not JSON ({error}); pass what is (a string instead of a date or a "
                "path), or override serialize()"
            ) from None
    return json.dumps(arguments)


def source_of(trigger: BaseEventTrigger, kwargs: dict[str, JsonValue]) -> Source:
    """Say what a trigger's shared stream is read from.

    :param trigger: the trigger.
    :param kwargs: its arguments.
    """
    kind = type(trigger)
    positioned = getattr(kind.shared_stream_position, "__func__") is not getattr(  # noqa: B009 - typed as a function
        BaseEventTrigger.shared_stream_position, "__func__"
    )
    return Source(kind, kwargs, positioned)


def _check_json(value: object) -> None:
    json.dumps(value, allow_nan=False)
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            for key in cast("dict[object, object]", item):
                if not isinstance(key, str):
                    raise TypeError(f"the key {key!r} is no string")
            pending.extend(cast("dict[str, object]", item).values())
        elif isinstance(item, list | tuple):
            pending.extend(cast("list[object]", item))
