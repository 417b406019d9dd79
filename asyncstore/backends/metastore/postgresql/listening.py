"""Hearing of other connections' commits, and what is looked at beside in case nothing is heard."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from hashlib import md5
from time import monotonic
from typing import Any

from ....scopes import Scope, TaskScope
from .errors import is_driver_error
from .link import Link
from .pool import Pool

__all__ = ["CHANNEL", "Listener", "tokens_of"]

CHANNEL = "asyncstore"
_LOG = logging.getLogger(__name__)

# Held while listening: who commits looks whether somebody holds it, see `asyncstore_watched`.
_HOLD = "SELECT pg_advisory_lock_shared(1634956147, 1000 + slot) FROM generate_series(0, 63) AS slot"
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
    :param wanted: tells whether somebody watches still.
    :ivar hears: changes are told of.
    """

    def __init__(self, pool: Pool, heard: Callable[[frozenset[str] | None], None], wanted: Callable[[], bool]) -> None:
        self._pool = pool
        self._heard = heard
        self._wanted = wanted
        self.hears = False

    async def run(self) -> None:
        """Listen for as long as it is wanted; connect anew where the connection ends."""
        told = False
        while self._wanted():
            link: Link | None = None
            try:
                link = await self._pool.open(monotonic() + self._pool.operation_timeout)
                ended = asyncio.Event()
                link.raw.add_termination_listener(lambda _, ended=ended: ended.set())
                await link.raw.add_listener(CHANNEL, self._note)
                # May wait for transactions that were begun before and will tell nobody.
                await link.raw.execute("SET lock_timeout = 0")
                await link.raw.execute(_HOLD)
                told, self.hears = False, True
                self._heard(None)  # what was committed before is not told of
                await self._stay(link, ended)
            except Exception as error:
                if not is_driver_error(error):
                    raise
                if not told:
                    told = True
                    _LOG.warning(
                        "%s: cannot listen for changes, and looks for them instead (%s)", self._pool.target.place, error
                    )
            finally:
                self.hears = False
                if link is not None:
                    self._pool.drop(link)
            if self._wanted():
                await asyncio.sleep(_PAUSE)

    async def _stay(self, link: Link, ended: asyncio.Event) -> None:
        while not ended.is_set() and self._wanted():
            try:
                async with asyncio.timeout(_SIGN_OF_LIFE):
                    await ended.wait()
            except TimeoutError:
                # A connection may be dead without a word.
                async with asyncio.timeout(_SIGN_OF_LIFE):
                    await link.raw.execute("SELECT 1")

    def _note(self, connection: object, process: int, channel: str, payload: Any) -> None:
        self._heard(None if payload == "*" else frozenset(str(payload).split(" ")))
