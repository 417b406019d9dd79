"""The bucket watcher: one event for every version of an object."""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import anyio

from asyncstore import ConfigurationError

from ...abc import BaseEventTrigger
from ...events import TriggerEvent
from ..extras import need
from ..patience import Patience
from ..seen import Seen, digest
from .looking import pages_of

if TYPE_CHECKING:
    from asyncstore.backends.objects.listing import ListedObject, ObjectListing

__all__ = ["ObjectStoreTrigger"]


class ObjectStoreTrigger(BaseEventTrigger):
    """Yield one event for every version of an object below a prefix: its path, size, time and entity tag.

    The event's payload is `{"path", "uri", "size", "last_modified", "etag"}`, the path relative to the prefix, with
    `"version"` where the storage names one. Which versions were recorded is kept in the asset's state, one key per
    object that is there, committed with each event; with `ordered` it is one key for all.

    :param url: `s3://connection@bucket/prefix/`, `gs://...`, `az://...`, or `memory://name` in tests. The connection
        is `ASYNCSTORE_CONN_<ID>`, as for `ObjectStorageBackend`; without one the cloud's usual environment counts.
    :param pattern: a glob for the object's last name, or for the relative path where it holds a `/`.
    :param recursive: objects below further slashes, too.
    :param created_only: only the first version of each path.
    :param new_only: not those that are there when the watcher first begins: when its list of them is stored.
    :param ordered: every new object's path is greater than all before it. Only what comes after the last recorded
        path is listed, and only that path is kept. What comes out of order and what changes is not told.
    :param interval: seconds between looks.
    :param once: return when every object that is there has been recorded.
    :param memory: under which prefix of the asset's state the versions are kept; two watchers of one asset need two.
    :raises ValueError: an argument is refused.
    :raises ConfigurationError: the extra `objectstore` is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        pattern: str = "*",
        recursive: bool = False,
        created_only: bool = False,
        new_only: bool = False,
        ordered: bool = False,
        interval: float = 30.0,
        once: bool = False,
        memory: str = "objects",
    ) -> None:
        self._listing = _listing(url)
        if not (math.isfinite(interval) and interval > 0):
            raise ValueError(f"interval must be a finite number of seconds and more than 0, not {interval!r}")
        if not 0 < len(memory.encode()) <= 200:
            raise ValueError("memory is a text of 1 to 200 bytes")
        if not pattern:
            raise ValueError("pattern is a glob of a name, or of a path below the prefix, not empty")
        self._match = re.compile(fnmatch.translate(pattern)).match
        self._match_path = "/" in pattern
        self._recursive = recursive
        self._created_only = created_only
        self._new_only = new_only
        self._ordered = ordered
        self._interval = interval
        self._once = once
        self._memory = memory

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.uri}>"

    @property
    def uri(self) -> str:
        """Return what is watched, without any secret."""
        return str(self._listing)

    def check(self) -> None:
        """Look up the connection; nothing is sent.

        :raises ConfigurationError: it is missing, or has an option that is not known.
        """
        self._listing.open()

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look, yield, and look again."""
        self.check()
        looks = self._in_order() if self._ordered else self._all()
        async with aclosing(looks):
            async for event in looks:
                if event is not None:
                    yield event
                elif self._once:
                    return
                else:
                    await anyio.sleep(self._interval)

    # -- every object, compared with what is known of it

    async def _all(self) -> AsyncGenerator[TriggerEvent | None]:
        seen = Seen(self.asset_state, f"{self._memory}/object")
        if self._new_only and await self.asset_state.aget(f"{self._memory}/baseline") is None:
            await self._take_baseline(seen)
        patience = Patience(self.uri)
        while True:
            seen.begin()
            async for page in pages_of(self._listing, patience, flat=self._recursive):
                for each, name, before in await self._unknown(seen, page):
                    yield self._event(each, seen.key(name))
                    if before is None:
                        seen.added()
            await seen.finish()
            yield None

    async def _unknown(self, seen: Seen, page: Sequence[ListedObject]) -> list[tuple[ListedObject, str, str | None]]:
        # By name, so that of two that are called alike the last one counts.
        wanted = {digest(each.path.encode()): each for each in self._wanted(page)}
        known = await seen.page(list(wanted)) if wanted else {}
        return [
            (each, name, known.get(name))
            for name, each in wanted.items()
            if (known.get(name) != _version(each) if not self._created_only else name not in known)
        ]

    async def _take_baseline(self, seen: Seen) -> None:
        # The mark comes last, so that a crash begins anew.
        async for page in pages_of(self._listing, Patience(self.uri), flat=self._recursive):
            unknown = await self._unknown(seen, page)
            if unknown:
                await self.asset_state.aset_many({seen.key(name): _version(each) for each, name, _ in unknown})
        await self.asset_state.aset(f"{self._memory}/baseline", True)

    def _wanted(self, page: Sequence[ListedObject]) -> Iterator[ListedObject]:
        for each in page:
            folder, _, last = each.path.rpartition("/")
            if (self._recursive or not folder) and self._match(each.path if self._match_path else last):
                yield each

    def _event(self, each: ListedObject, key: str) -> TriggerEvent:
        return TriggerEvent(
            self._payload(each),
            key=f"{self._memory}:{digest(f'{_version(each)} {each.path}'.encode())}",
            checkpoint={key: _version(each)},
        )

    def _payload(self, each: ListedObject) -> dict[str, Any]:
        facts = {
            "path": each.path,
            "uri": self._listing.uri_of(each),
            "size": each.size,
            "last_modified": each.last_modified.isoformat(),
            "etag": each.e_tag,
        }
        return facts if each.version is None else {**facts, "version": each.version}

    # -- what comes after the last one

    async def _in_order(self) -> AsyncGenerator[TriggerEvent | None]:
        key = f"{self._memory}/after"
        at: str = await self.asset_state.aget(key, "")
        patience = Patience(self.uri)
        if self._new_only and not at and await self.asset_state.aget(f"{self._memory}/baseline") is None:
            async for page in pages_of(self._listing, patience, after=at, flat=self._recursive, ordered=True):
                at = page[-1].path
            begin = {key: at} if at else {}
            await self.asset_state.aset_many({**begin, f"{self._memory}/baseline": True})
        while True:
            async for page in pages_of(self._listing, patience, after=at, flat=self._recursive, ordered=True):
                for each in self._wanted(page):
                    yield TriggerEvent(self._payload(each), checkpoint={key: each.path})
                at = page[-1].path
            yield None


def _version(each: ListedObject) -> str:
    """Give what is kept of an object: what tells this version of it from any other."""
    return digest(f"{each.size} {each.last_modified.timestamp()!r} {each.e_tag} {each.version}".encode())


def _listing(url: str) -> ObjectListing:
    need("obstore", "objectstore", "watching a bucket")
    from asyncstore.backends.objects.listing import ObjectListing  # an extra

    try:
        listing = ObjectListing(url)
    except ConfigurationError as error:
        raise ValueError(str(error)) from None
    if listing.kind == "file":
        raise ValueError(f"{listing} is a folder: the folder watcher (FolderTrigger) tells when its files are complete")
    return listing
