"""Going through all pages of an API, whatever comes in between."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import anyio
import anyio.to_thread

from ..patience import Patience
from .address import with_parameter
from .client import Answer, AwayError, Client
from .conditions import Conditions
from .memory import Memory
from .paging import Pager, Paging
from .paths import ABSENT
from .reading import Item, Page, Shape, read_page

__all__ = ["Rounds"]

logger = logging.getLogger("triggers")

#: Items that are looked up at once.
_CHUNK = 500
#: Answers of 304 in a row, behind which an API that pages by `Link` is asked in full: its tag may be that of the body
#: alone, which stays what it is when a second page comes.
_SPARED = 10
#: Bytes from which an answer is read in a thread.
_LONG = 65_536


class _AnewError(Exception):
    """Say that the pages are to be gone through from the first one."""


class Rounds:
    """Go through the pages, again and again.

    :param client: asks.
    :param url: of the first page.
    :param shape: where in an answer is what.
    :param paging: which page follows.
    :param since: the parameter of the watermark and its value, with `{watermark}`; None for none.
    :param conditions: what makes a request conditional.
    :param shown: the API, for people.
    """

    def __init__(
        self,
        client: Client,
        url: str,
        shape: Shape,
        paging: Paging,
        since: tuple[str, str] | None,
        conditions: Conditions,
        shown: str,
    ) -> None:
        self._client = client
        self._url = url
        self._shape = shape
        self._paging = paging
        self._since = since
        self._conditions = conditions
        self._shown = shown
        self._patience = Patience(shown)
        self._pause = 0.0
        self._told = False
        self._spared = 0
        #: The pages of the last round that held items, as far as it went.
        self.pages = 0
        #: The API said that nothing has changed since the last round.
        self.unchanged = False

    def _first(self, memory: Memory) -> str:
        at = memory.watermark
        if self._since is None or at is None:
            return self._url
        name, template = self._since
        return with_parameter(
            self._url, name, template.replace("{watermark}", at if isinstance(at, str) else json.dumps(at))
        )

    async def through(self, memory: Memory) -> AsyncGenerator[Sequence[Item]]:
        """Give the items of every page, some at a time; who is away is waited for.

        A request that may succeed the next time is made again; for anything else the pages are begun anew.

        :param memory: is told of each beginning.
        """
        while True:
            memory.begin()
            self.unchanged, self.pages = False, 0
            try:
                async with aclosing(self._once(Pager(self._paging, self._first(memory)))) as chunks:
                    async for chunk in chunks:
                        yield chunk
                return
            except _AnewError:
                continue

    async def _once(self, pager: Pager) -> AsyncGenerator[Sequence[Item]]:
        more = True
        while more:
            number = pager.number
            page, more = await self._page(pager)
            self.pages = number if page.items else self.pages
            self._check(page)
            for start in range(0, len(page.items), _CHUNK):
                yield page.items[start : start + _CHUNK]

    async def _page(self, pager: Pager) -> tuple[Page, bool]:
        while True:
            url, number = pager.url, pager.number
            try:
                answer = await self._ask(url, first=number == 1, by_link=pager.by_link)
                if answer.status == 304 and pager.by_link and "link" in answer.headers:
                    self._spared = _SPARED
                    continue
                if answer.status == 304:
                    self.unchanged = True
                    page, more = Page((), ABSENT, ""), False
                else:
                    page = await self._read(answer)
                    more = pager.advance(answer, page)
                    if number == 1:
                        self._conditions.note(url, None if more else answer)
            except AwayError as error:
                if error.status == 404 and number > 1 and pager.counts:
                    return Page((), ABSENT, ""), False  # what some say behind the last page
                where = f"page {number}: " if number > 1 else ""
                await self._patience.wait(self._client.hide(f"{where}{error.reason}"), at_least=error.at_least)
                if not error.passing:
                    raise _AnewError from None
            else:
                self._patience.arrived()
                return page, more

    async def _ask(self, url: str, *, first: bool, by_link: bool) -> Answer:
        if self._pause:
            pause, self._pause = self._pause, 0.0
            await anyio.sleep(pause)
        spare = first and not (by_link and self._spared >= _SPARED)
        answer = await self._client.get(url, self._conditions.headers(url) if spare else {})
        if first:
            self._spared = self._spared + 1 if answer.status == 304 else 0
        self._pause = answer.pause
        return answer

    async def _read(self, answer: Answer) -> Page:
        kind = answer.headers.get("content-type", "")
        if len(answer.body) < _LONG:
            return read_page(answer.body, self._shape, kind)
        return await anyio.to_thread.run_sync(read_page, answer.body, self._shape, kind, abandon_on_cancel=True)

    def _check(self, page: Page) -> None:
        if self._shape.id and not self._told and any(each.label is None for each in page.items):
            self._told = True
            logger.warning("%s: some items have no id at %r; all of them counts instead", self._shown, self._shape.id)
