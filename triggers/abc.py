"""The extension point of triggers: what a watcher's author writes."""

from __future__ import annotations

import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from functools import lru_cache
from typing import Any, Self, cast

from asyncstore import Asset, AssetStoreAccessors, JsonValue, StoreError

from .errors import InvalidTriggerError
from .events import TriggerEvent

__all__ = ["BaseEventTrigger", "BaseTrigger"]


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
    """

    _asset: Asset | None = None
    _asset_state: AssetStoreAccessors | None = None

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

    def bind(self, asset: Asset, asset_state: AssetStoreAccessors) -> None:
        """Tie the trigger to what it watches; for whoever runs it.

        :param asset: the watched asset.
        :param asset_state: the state of assets.
        """
        self._asset = asset
        self._asset_state = asset_state


@lru_cache(maxsize=256)
def _signature(kind: type[BaseTrigger]) -> inspect.Signature:
    return inspect.signature(kind)


def arguments_of(trigger: BaseTrigger) -> str:
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
