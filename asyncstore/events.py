"""Reading the events of an asset."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import final

import anyio

from .blocking import drive
from .core import Core
from .errors import AssetNotFoundError
from .records import Event
from .scopes import Asset, AssetScope

__all__ = ["EventLog"]

_PAGE = 500


@final
class EventLog:
    """Read the events of an asset in the order of their commits.

    `async for event in store.events(orders)` yields those in the log and then waits for more, without end.

    :param core: the store's core.
    :param asset: an `Asset`, which need not be registered yet, or an `AssetScope` of one that is; None for all.
    :param after: only events with a larger id.
    :param poll_interval: seconds between two looks for new events.
    """

    def __init__(
        self, core: Core, asset: Asset | AssetScope | None, *, after: int = 0, poll_interval: float = 0.2
    ) -> None:
        if not isinstance(asset, Asset | AssetScope | None):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"events belong to an Asset or AssetScope, not to {asset!r}")
        self._core = core
        self._asset = asset
        self._after = after
        self._poll_interval = poll_interval

    async def alist(self, limit: int | None = None) -> Sequence[Event]:
        """List the events that are in the log.

        :param limit: how many at most; None for all.
        :raises UnsupportedOperationError: the backend records no events.
        """
        return await self._page(self._after, limit)

    def list(self, limit: int | None = None) -> Sequence[Event]:
        """Do what `alist` does, from sync code."""
        return drive(self.alist(limit))

    async def _page(self, after: int, limit: int | None) -> Sequence[Event]:
        async def read(scope: AssetScope | None) -> Sequence[Event]:
            return await self._core.call(lambda: self._core.backend.alist_events(scope, after=after, limit=limit))

        if limit is not None and limit < 0:
            raise ValueError(f"limit must be 0 or more, or None for all, not {limit}")
        asset = self._asset
        if not isinstance(asset, Asset):
            return await read(asset)
        # Reading registers nothing: an asset that nobody watched yet, or that was deleted, has no events.
        name, uri = asset.explicit_name, asset.explicit_uri
        try:
            return await read(AssetScope(name=name) if name is not None else AssetScope(uri=uri))
        except AssetNotFoundError:
            return []

    async def __aiter__(self) -> AsyncIterator[Event]:
        after = self._after
        while True:
            page = await self._page(after, _PAGE)
            for event in page:
                after = event.id
                yield event
            if len(page) < _PAGE:
                await anyio.sleep(self._poll_interval)
