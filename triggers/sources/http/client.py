"""One request, and everything that can become of it."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import anyio

from .access import Access
from .address import check_url, shown
from .limits import is_exhausted, seconds_asked

if TYPE_CHECKING:
    import httpx

__all__ = ["Answer", "AwayError", "Client", "followed"]

_REDIRECTS = {301, 302, 303, 307, 308}
_MOST_REDIRECTS = 10
#: What a client may ask again without changing anything; 5xx, too.
_PASSING = {408, 425, 429}
#: Of the longest pause between two bytes: what a whole answer may take.
_WHOLE = 10


class AwayError(Exception):
    """Say why the API cannot be read now.

    :ivar reason: what went wrong, without any secret.
    :ivar at_least: seconds that the API asks to wait.
    :ivar passing: the same request may succeed; else the pages are begun anew.
    :ivar status: of the answer; 0 where there was none.
    """

    def __init__(self, reason: str, *, at_least: float = 0.0, passing: bool = True, status: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.at_least = at_least
        self.passing = passing
        self.status = status


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold an answer that was read to its end.

    :ivar url: where it came from, after redirects.
    :ivar status: 304, or of those that mean success.
    :ivar headers: by name, in lower case.
    :ivar body: what it says, decoded.
    :ivar pause: seconds to wait before the next request.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    pause: float = 0.0


class Client:
    """Ask an API; it keeps connections, and no cookies. To be made in a thread, for it reads certificates.

    Requests go below httpx's own client, which writes every URL to its log.

    :param access: what lets in.
    :param timeout: seconds between two bytes.
    :param connect_timeout: seconds until there is a connection.
    :param max_bytes: of an answer, decoded.
    """

    def __init__(self, access: Access, *, timeout: float, connect_timeout: float, max_bytes: int) -> None:
        import httpx

        self._httpx = httpx
        self._access = access
        self._timeout = timeout
        self._timeouts = {"connect": connect_timeout, "read": timeout, "write": timeout, "pool": timeout}
        self._max_bytes = max_bytes
        # The usual variables of the environment, as httpx's own client heeds them.
        proxies = getproxies()
        self._direct = httpx.AsyncHTTPTransport(verify=access.verify)
        self._proxies: dict[str, httpx.AsyncHTTPTransport] = {
            scheme: httpx.AsyncHTTPTransport(verify=access.verify, proxy=proxies[scheme])
            for scheme in ("http", "https")
            if scheme in proxies
        }

    def hide(self, text: str) -> str:
        """Replace the secrets in a text.

        :param text: what somebody else said.
        """
        return self._access.hide(text)

    async def aclose(self) -> None:
        """Close the connections."""
        for each in (self._direct, *self._proxies.values()):
            await each.aclose()

    async def get(self, url: str, conditions: Mapping[str, str]) -> Answer:
        """Ask for a URL, and follow its redirects.

        :param url: the URL.
        :param conditions: headers that make the request conditional.
        :raises AwayError: there is no answer that could be used; says why.
        """
        for _ in range(_MOST_REDIRECTS + 1):
            with anyio.move_on_after(_WHOLE * self._timeout):
                try:
                    found = await self._get(url, conditions)
                except self._httpx.HTTPError as error:
                    raise AwayError(self._explained(error)) from None
                except self._httpx.InvalidURL:
                    raise AwayError("the API leads to a URL that cannot be read", passing=False) from None
                if isinstance(found, Answer):
                    return found
                url = found
                continue
            raise AwayError(f"the answer was not there in whole after {_WHOLE * self._timeout:g} s")
        raise AwayError(f"more than {_MOST_REDIRECTS} redirects", passing=False)

    def _explained(self, error: Exception) -> str:
        said = " ".join(self._access.hide(str(error)).split())[:300]
        what = {
            "ConnectTimeout": "no connection within the time limit",
            "ConnectError": "cannot be reached",
            "ReadTimeout": f"nothing came for {self._timeout:g} s",
            "RemoteProtocolError": "the answer broke off",
            "ReadError": "the connection was lost",
        }.get(type(error).__name__, type(error).__name__)
        return f"{what}: {said}" if said else what

    async def _get(self, url: str, conditions: Mapping[str, str]) -> Answer | str:
        full, headers = self._access.apply(url)
        request = self._httpx.Request(
            "GET",
            full,
            headers={**headers, **conditions, "Accept-Encoding": "gzip"},
            extensions={"timeout": self._timeouts},
        )
        response = await self._transport(full).handle_async_request(request)
        try:
            fields = {name.lower(): value for name, value in response.headers.items()}
            status = response.status_code
            if status in _REDIRECTS and "location" in fields:
                return followed(url, fields["location"])
            if status != 304 and not 200 <= status < 300:
                raise self._refused(status, fields)
            body = b"" if status == 304 else await self._read(response, fields)
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(1.0):
                await response.aclose()
        return Answer(url, status, fields, body, seconds_asked(fields) if is_exhausted(fields) else 0.0)

    def _transport(self, url: str) -> httpx.AsyncHTTPTransport:
        parts = urlsplit(url)
        found = self._proxies.get(parts.scheme)
        return self._direct if found is None or proxy_bypass(parts.hostname or "") else found

    def _refused(self, status: int, fields: Mapping[str, str]) -> AwayError:
        # 403 is what some say where others say 429.
        passing = status >= 500 or status in _PASSING or (status == 403 and is_exhausted(fields))
        known = {401: "not let in", 403: "access is denied", 404: "not there", 410: "gone", 429: "too many requests"}
        means = f", {known[status]}" if status in known else ""
        return AwayError(
            f"HTTP {status}{means}", at_least=seconds_asked(fields) if passing else 0.0, passing=passing, status=status
        )

    async def _read(self, response: httpx.Response, fields: Mapping[str, str]) -> bytes:
        coding = fields.get("content-encoding", "identity").strip().lower()
        if coding not in {"identity", "gzip", "x-gzip", ""}:
            raise AwayError(f"the answer is encoded as {coding[:40]!r}, which was not asked for")
        body = _Body(self._max_bytes, packed="gzip" in coding)
        if fields.get("content-length", "").isdecimal() and int(fields["content-length"]) > self._max_bytes:
            raise body.too_large()
        async for chunk in response.aiter_raw():
            body.add(chunk)
        return body.whole()


class _Body:
    """Collect an answer, never more than is allowed, however small it was packed.

    :param limit: bytes.
    :param packed: it comes by gzip.
    """

    def __init__(self, limit: int, *, packed: bool) -> None:
        self._limit = limit
        self._data = bytearray()
        self._unpack = zlib.decompressobj(31) if packed else None  # with a gzip header

    def add(self, chunk: bytes) -> None:
        """Take what came."""
        try:
            if self._unpack is not None:
                chunk = self._unpack.decompress(chunk, self._limit - len(self._data) + 1)
        except zlib.error:
            raise AwayError("the answer is packed, and damaged") from None
        self._data += chunk
        if len(self._data) > self._limit:
            raise self.too_large()

    def too_large(self) -> AwayError:
        """Say that it is too large."""
        return AwayError(f"the answer is larger than {self._limit:,} bytes, which is the limit")

    def whole(self) -> bytes:
        """Give all of it."""
        if self._unpack is not None and self._data and not self._unpack.eof:
            raise AwayError("the answer broke off")
        return bytes(self._data)


def followed(url: str, link: str) -> str:
    """Give the URL that a link of the API leads to.

    :param url: where the link stands.
    :param link: the link, absolute or relative.
    :raises AwayError: it leads out of HTTP, or from a protected connection to an open one.
    """
    try:
        target = urljoin(url, link.strip())
        check_url(target)
    except ValueError:
        raise AwayError("the API leads to a URL that cannot be read", passing=False) from None
    if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https":
        raise AwayError(f"the API leads from https to {shown(target)}, which anybody could read", passing=False)
    return target
