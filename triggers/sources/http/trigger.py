"""The HTTP watcher: one event for every item that a JSON API shows."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from functools import partial

import anyio
import anyio.to_thread

from asyncstore import ConfigurationError

from ...abc import BaseEventTrigger
from ...events import TriggerEvent
from ..extras import need
from .access import check_headers, open_access
from .address import check_url, masked
from .client import Client
from .conditions import Conditions
from .memory import Memory, Shown, Watermarked
from .paging import Paging, since_parameter
from .paths import check_path
from .reading import Shape
from .rounds import Rounds

__all__ = ["HttpTrigger"]


class HttpTrigger(BaseEventTrigger):
    """Yield one event for every item that an HTTP API shows; the item is the payload.

    Without `watermark` each item that is shown is remembered in the asset's state, one key for each, committed with
    its event. With it only the greatest watermark is, and it moves when every item of an answer is recorded.

    :param url: of the API; `${NAME}` in it stands for an environment variable. Its user part, and parameters that
        hold credentials by their name, are shown nowhere.
    :param items: where in the answer the list of items is: `data.items`; empty where the answer is the list.
    :param id: where in an item its id is. Without one all of the item counts.
    :param changes: an item that changed (or, with `watermark`, has a greater one) is an event although its id was told.
    :param watermark: where in an item is what grows from item to item: a number, or a text compared by code points,
        as dates of ISO 8601 are. Only items that are not below the greatest one so far are events.
    :param since: the query parameter that tells the API the watermark, or `name=value with {watermark}`.
    :param ascending: the API gives items in the order of their watermarks: it moves with each event, so that after a
        crash a long listing is not gone through from its beginning.
    :param next: where in the answer the URL of the next page is; without it, `Link: <...>; rel="next"` counts.
    :param cursor: what `next` finds is no URL, but goes into this query parameter.
    :param page: a query parameter that counts pages, up to the first that is empty or not there (404).
    :param first_page: the number of the first one.
    :param offset: a query parameter that counts items, up to the first page that is empty or not there.
    :param headers: more headers of the request; a secret in one is written as `${NAME}`.
    :param connection: `ASYNCSTORE_CONN_<ID>` in the environment, a JSON object with any of `headers`, `params`,
        `token` (Bearer), `username` and `password` (Basic) and `verify` (false, or a file of certificates).
    :param new_only: not those that are there when the watcher first begins: when its list of them is stored.
    :param interval: seconds between looks.
    :param timeout: the longest pause between two bytes of an answer; the whole may take ten times as long.
    :param connect_timeout: seconds until there is a connection.
    :param max_bytes: of an answer, unpacked; a larger one is refused.
    :param once: return when every item that is there has been recorded.
    :param memory: under which prefix of the asset's state it is kept; two watchers of one asset need two.
    :raises ValueError: an argument is refused.
    :raises ConfigurationError: the extra `http` is not installed.
    """

    _client: Client | None = None

    def __init__(
        self,
        url: str,
        *,
        items: str = "",
        id: str = "",
        changes: bool = False,
        watermark: str = "",
        since: str = "",
        ascending: bool = False,
        next: str = "",
        cursor: str = "",
        page: str = "",
        first_page: int = 1,
        offset: str = "",
        headers: Mapping[str, str] | None = None,
        connection: str = "",
        new_only: bool = False,
        interval: float = 60.0,
        timeout: float = 30.0,
        connect_timeout: float = 10.0,
        max_bytes: int = 16 * 1024 * 1024,
        once: bool = False,
        memory: str = "items",
    ) -> None:
        need("httpx", "http", "watching an HTTP API")
        check_url(url)
        for name, path in (("items", items), ("id", id), ("watermark", watermark), ("next", next)):
            check_path(name, path)
        if (since or ascending) and not watermark:
            raise ValueError("since and ascending say something of the watermark; say where in an item it is")
        if not 0 < len(memory.encode()) <= 200:
            raise ValueError("memory is a text of 1 to 200 bytes")
        _check_numbers(max_bytes, interval=interval, timeout=timeout, connect_timeout=connect_timeout)
        self._shape = Shape(items, id, watermark, next)
        self._paging = Paging(next, cursor, page, first_page, offset)
        self._paging.check()
        self._since = since_parameter(since) if since else None
        self._headers = dict(headers or {})
        check_headers(self._headers)
        self._url, self._connection = url, connection
        self._changes, self._ascending, self._new_only = changes, ascending, new_only
        self._interval, self._once, self._memory = interval, once, memory
        self._make_client = partial(Client, timeout=timeout, connect_timeout=connect_timeout, max_bytes=max_bytes)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.uri}>"

    @property
    def uri(self) -> str:
        """Return what is watched, without any secret."""
        return masked(self._url)

    def check(self) -> None:
        """Look up what the arguments name in the environment; nothing is sent.

        :raises ConfigurationError: it is not there, or not what it should be.
        """
        open_access(self._url, self._headers, self._connection)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Ask, yield, and ask again."""
        state, memory = self.asset_state, self._recollection()
        conditions = Conditions(state, f"{self._memory}/validators", self._reading())
        await memory.recall()
        await conditions.recall()
        baseline = self._new_only and await state.aget(f"{self._memory}/baseline") is None
        if baseline:
            conditions.forget()
        rounds = await self._rounds(conditions)
        is_again = False
        while True:
            async with aclosing(rounds.through(memory)) as chunks:
                async for chunk in chunks:
                    if baseline:
                        await memory.pass_over(chunk)
                        continue
                    for item, event in await memory.events(chunk):
                        async with self.item(item.label or item.name):
                            yield event
            if not rounds.unchanged:
                also = {f"{self._memory}/baseline": True} if baseline else {}
                await memory.finish({**conditions.changed(), **also}, shifting=rounds.pages > 1 and not baseline)
                baseline = False
            if self._once:
                if memory.wants_another and not is_again:
                    is_again = True
                    continue
                return
            await anyio.sleep(self._interval)

    async def cleanup(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _recollection(self) -> Memory:
        if self._shape.watermark:
            return Watermarked(
                self.asset_state, self._memory, self.uri, changes=self._changes, ascending=self._ascending
            )
        return Shown(self.asset_state, self._memory, self.uri, changes=self._changes)

    def _reading(self) -> str:
        return repr((self._shape, self._paging, self._since, self._changes, self._headers, self._connection))

    async def _rounds(self, conditions: Conditions) -> Rounds:
        access = open_access(self._url, self._headers, self._connection)
        try:
            client = await anyio.to_thread.run_sync(partial(self._make_client, access))
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{self.uri}: {access.hide(str(error))}") from None
        self._client = client
        return Rounds(client, access.url, self._shape, self._paging, self._since, conditions, self.uri)


def _check_numbers(max_bytes: int, **seconds: float) -> None:
    for name, value in seconds.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a finite number of seconds and more than 0, not {value!r}")
    if type(max_bytes) is not int or max_bytes < 1:
        raise ValueError(f"max_bytes is a positive integer, not {max_bytes!r}")
