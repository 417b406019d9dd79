"""Which page follows."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from ..seen import digest
from .address import with_parameter
from .client import Answer, AwayError, followed
from .paths import ABSENT
from .reading import Page

__all__ = ["Pager", "Paging", "since_parameter"]


@dataclass(frozen=True, slots=True)
class Paging:
    """Say how the pages of an API follow each other; without anything, by `Link: <...>; rel="next"` (RFC 8288).

    :ivar next: an answer says itself where the next page is: by a URL, or by a cursor.
    :ivar cursor: the parameter that a cursor goes into.
    :ivar page: a parameter that counts pages, to the first empty one.
    :ivar first_page: the number of the first.
    :ivar offset: a parameter that counts items, to the first empty page.
    """

    next: str
    cursor: str
    page: str
    first_page: int
    offset: str

    def check(self) -> None:
        """Refuse ways that contradict each other.

        :raises ValueError: they do.
        """
        if sum(map(bool, (self.next, self.page, self.offset))) > 1:
            raise ValueError("pages follow each other in one way: next, page or offset")
        if self.cursor and not self.next:
            raise ValueError("cursor names the parameter for what next finds in the answer; give next as well")
        if type(self.first_page) is not int or self.first_page < 0:
            raise ValueError(f"first_page is the number of the first page, not {self.first_page!r}")


def since_parameter(since: str) -> tuple[str, str]:
    """Give the parameter that a watermark goes into, and its value with `{watermark}` in it.

    :param since: the name, or `name=template`.
    :raises ValueError: it is neither.
    """
    name, equals, template = since.partition("=")
    template = template if equals else "{watermark}"
    if not name or "{watermark}" not in template:
        raise ValueError(f"since is a parameter, or 'name=value with {{watermark}}', not {since!r}")
    return name, template


class Pager:
    """Go from page to page, once through.

    :param paging: how.
    :param url: of the first page, before what counts.
    """

    def __init__(self, paging: Paging, url: str) -> None:
        self._paging = paging
        self._url = url
        self._items = 0
        #: The number of the page, from 1 on.
        self.number = 1
        self._content: str = ""
        first = self._counted(url)
        self._been = {digest(first.encode())}
        #: The URL of the page.
        self.url = first

    def _counted(self, url: str) -> str:
        paging = self._paging
        if paging.page:
            return with_parameter(url, paging.page, str(paging.first_page + self.number - 1))
        return with_parameter(url, paging.offset, str(self._items)) if paging.offset else url

    @property
    def counts(self) -> bool:
        """Tell whether pages are numbered, so that only an empty one, or none, is the end."""
        return bool(self._paging.page or self._paging.offset)

    @property
    def by_link(self) -> bool:
        """Tell whether a header says which page follows, and not the body."""
        return not self.counts and not self._paging.next

    def advance(self, answer: Answer, page: Page) -> bool:
        """Go to the next page; says whether there is one.

        :param answer: the answer.
        :param page: what it says.
        :raises AwayError: the pages go round in a circle.
        """
        same = bool(page.items) and page.content == self._content
        if self.counts and not page.items:
            return False
        if self.counts and same:
            raise self._circle(f"page {self.number} is the same as the one before it")
        if self.counts:
            self._items += len(page.items)
            self.number += 1
            self.url = self._counted(self._url)
        else:
            following = self._following(answer, page)
            if following is None:
                return False
            mark = digest(following.encode())
            if mark in self._been or same:
                raise self._circle(f"page {self.number} leads to one that was read")
            self._been.add(mark)
            self.number += 1
            self.url = following
        self._content = page.content
        return True

    def _circle(self, what: str) -> AwayError:
        return AwayError(f"the pages go round in a circle: {what}", passing=False)

    def _following(self, answer: Answer, page: Page) -> str | None:
        if not self._paging.next:
            link = _next_link(answer.headers.get("link", ""))
            return None if link is None else followed(answer.url, link)
        found: Any = page.next
        if found is ABSENT or found is None or found is False or found == "":
            return None
        if self._paging.cursor and isinstance(found, str | int | float):
            return with_parameter(
                self._url, self._paging.cursor, found if isinstance(found, str) else json.dumps(found)
            )
        if not isinstance(found, str):
            raise AwayError(f"what is at {self._paging.next!r} is no {'cursor' if self._paging.cursor else 'URL'}")
        return followed(answer.url, found)


# A parameter may be quoted; commas stand between links, and in URLs.
_LINK = re.compile(r'<([^>]*)>((?:\s*;\s*[\w!#$&+.^`|~*-]+\s*(?:=\s*(?:"(?:[^"\\]|\\.)*"|[^\s",;]+))?)*)')
_PARAMETER = re.compile(r';\s*([\w!#$&+.^`|~*-]+)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",;]+)))?')


def _next_link(header: str) -> str | None:
    for target, parameters in _LINK.findall(header[:16_384]):
        relations = [quoted or plain for name, quoted, plain in _PARAMETER.findall(parameters) if name.lower() == "rel"]
        if relations and "next" in relations[0].lower().split():
            return str(target)
    return None
