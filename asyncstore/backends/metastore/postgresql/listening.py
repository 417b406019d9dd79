"""Hearing of other connections' commits, and what is looked at beside in case nothing is heard."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from hashlib import md5
from time import monotonic
from typing import Any

from ....scopes import Scope, TaskScope
from ...watching import Watched
from .errors import is_driver_error
from .link import Link
from .pool import Pool

__all__ = ["CHANNEL", "Listener", "tokens_of"]

CHANNEL = "asyncstore"
_LOG = logging.getLogger(__name__)

# Held while listening: who commits looks whether somebody holds it, see `asyncstore_watched`.
_HOLD = "SELECT pg_advisory_lock_shared(1634956147, 1000 + slot) FROM generate_series(0, 63) AS slot"
_LET_GO = "SELECT pg_advisory_unlock_all()"
#: Seconds between two attempts to listen again, and between two signs of life of a quiet connection.
_PAUSE = 0.5
_SIGN_OF_LIFE = 5.0


def _digest(text: str, length: int) -> str:
    return md5(text.encode(), usedforsecurity=False).hexdigest()[:length]


def tokens_of(scope: Scope, key: str) -> tuple[str, ...]:
    """Give the words by which a notification names a key, as `asyncstore_token` writes them.

    :return: for the key and for its whole scope; nothing where that cannot be told, as for an asset without its id.
    """
    if isinstance(scope, TaskScope):
        place = "t" + _digest(f"{scope.dag_id}\x01{scope.run_id}\x01{scope.task_id}", 12)
    elif scope.asset_id is not None:
        place = f"a{scope.asset_id}"
    else:
        return ()
    return f"{place}:{_digest(key, 8)}", f"{place}:*"


class Listener:
    """Listen on one connection for as long as somebody watches.

    :param pool: opens the connection.
    :param heard: called with the words of each notification; None where anything may have happened.
    :param watched: tells what is waited for.
    :ivar hears: changes are told of.
    """

    def __init__(self, pool: Pool, heard: Callable[[frozenset[str] | None], None], watched: Callable[[], Watched]):
        self._pool = pool
        self._heard = heard
        self._watched = watched
        self._holds: bool = False
        self._changed = asyncio.Event()
        self.hears = False

    def _wanted(self) -> bool:
        return self._watched() is not Watched.NOTHING

    def reconsider(self) -> None:
        """Look whether others have to tell more, or less, than they do."""
        if self._holds is not (self._watched() is Watched.COMMITS):
            self._changed.set()

    async def run(self) -> None:
        """Listen for as long as it is wanted; connect anew where the connection ends."""
        told = False
        while self._wanted():
            link: Link | None = None
            try:
                link = await self._pool.open(monotonic() + self._pool.operation_timeout)
                ended = asyncio.Event()
                link.raw.add_termination_listener(partial(self._end, ended))
                await link.raw.add_listener(CHANNEL, self._note)
                # May wait for transactions that were begun before and will tell nobody.
                await link.raw.execute("SET lock_timeout = 0")
                while not ended.is_set():
                    await self._hold(link)
                    told = False
                    await self._stay(link, ended)
                    if not self._wanted():
                        return
            except Exception as error:
                if not is_driver_error(error):
                    raise
                if not told:
                    told = True
                    _LOG.warning(
                        "%s: cannot listen for changes, and looks for them instead (%s)", self._pool.target.place, error
                    )
            finally:
                self.hears = self._holds = False
                if link is not None:
                    self._pool.drop(link)
            if self._wanted():
                await asyncio.sleep(_PAUSE)

    def _end(self, ended: asyncio.Event, _: object) -> None:
        ended.set()
        self._changed.set()

    async def _hold(self, link: Link) -> None:
        # Commits tell nobody, unless somebody waits for them: that costs them.
        self._changed.clear()
        holds = self._watched() is Watched.COMMITS
        if holds is not self._holds:
            self._holds, self.hears = holds, False
            if holds:
                await link.raw.execute(_HOLD)
            else:
                async with asyncio.timeout(_SIGN_OF_LIFE):
                    await link.raw.execute(_LET_GO)
        if not self.hears:
            self.hears = True
            self._heard(None)  # what was committed before is not told of

    async def _stay(self, link: Link, ended: asyncio.Event) -> None:
        while not ended.is_set() and not self._changed.is_set() and self._wanted():
            try:
                async with asyncio.timeout(_SIGN_OF_LIFE):
                    await self._changed.wait()
            except TimeoutError:
                # A connection may be dead without a word.
                async with asyncio.timeout(_SIGN_OF_LIFE):
                    await link.raw.execute("SELECT 1")

    def _note(self, connection: object, process: int, channel: str, payload: Any) -> None:
        self._heard(None if payload == "*" else frozenset(str(payload).split(" ")))
