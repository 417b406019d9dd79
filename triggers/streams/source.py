"""Opening and closing what a shared stream is read from."""

from __future__ import annotations

import asyncio
import copy
import inspect
import logging
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from asyncstore import JsonValue

from ..cancelling import nobody_cancels
from ..errors import InvalidTriggerError, SharedStreamError

if TYPE_CHECKING:
    from ..abc import BaseEventTrigger

__all__ = ["Reader", "Source", "close", "generator", "uninvited"]

logger = logging.getLogger("triggers")

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class Source:
    """Be what can be opened again and again: a class with its `open_shared_stream`, and arguments.

    :param kind: the class of the watchers.
    :param kwargs: the arguments of one of them.
    :param positioned: the class says where a raw event is.
    """

    kind: type[BaseEventTrigger]
    kwargs: dict[str, JsonValue]
    positioned: bool

    @property
    def snapshots(self) -> bool:
        """Return whether a raw event stands for all before it."""
        return self.kind.shared_stream_snapshots

    def open(self, since: Any) -> AsyncIterator[Any]:
        """Open the source.

        :param since: the position after which to begin; None for the beginning.
        :raises InvalidTriggerError: `open_shared_stream` is no async generator.
        """
        kwargs = copy.deepcopy(self.kwargs)  # it is opened more than once, and may change what it is given
        if since is not None:
            kwargs["shared_stream_since"] = since
        return generator(self.kind.open_shared_stream(kwargs), f"{self.kind.__qualname__}.open_shared_stream")

    def position(self, raw: Any) -> Any:
        """Say where a raw event is.

        :param raw: the raw event.
        :raises InvalidTriggerError: the class does not say.
        """
        position = self.kind.shared_stream_position(raw)
        if position is None:
            raise InvalidTriggerError(f"{self.kind.__qualname__}.shared_stream_position gave None for {raw!r:.200}")
        return position


def generator(made: AsyncIterator[ItemT], what: str) -> AsyncIterator[ItemT]:
    """Pass on what can be iterated.

    :param made: what a hook returned.
    :param what: which, for people.
    :raises InvalidTriggerError: it is a coroutine or anything else.
    """
    found: object = made
    if inspect.iscoroutine(found):
        found.close()
        raise InvalidTriggerError(f"{what}() is no async generator: it holds no `yield`")
    if not hasattr(made, "__anext__"):
        raise InvalidTriggerError(f"{what}() returned {made!r}, which is no async generator")
    return made


@contextmanager
def uninvited(what: str) -> Generator[None]:
    """Turn a `CancelledError` that nobody asked for into an error, as a future raises that somebody cancelled.

    A task that ends by one counts as cancelled, and so does whoever waits for it: nobody would hear of it.

    :param what: which hook runs in the block, for people.
    :raises SharedStreamError: the hook raised it by itself.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        if not nobody_cancels():
            raise
        raise SharedStreamError(f"{what}() raised CancelledError, though nobody cancelled it") from error


async def close(stream: object) -> None:
    """Close a generator, or anything with an `aclose`; its errors are logged.

    It is not shielded: whoever calls knows how long it may take while everything is being cancelled.

    :param stream: what to close.
    """
    aclose = getattr(stream, "aclose", None)
    if aclose is None:
        return
    try:
        with uninvited(f"{type(stream).__qualname__}.aclose"):
            await aclose()
    except Exception:
        logger.exception("closing %r failed", stream)


class Reader:
    """Read a source of one's own, from a position on.

    :param source: what to read.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._stream: AsyncIterator[Any] | None = None
        #: The position up to which nothing is needed; None: everything is.
        self.at: Any = None
        self._given = False
        self._ended = False

    @property
    def is_open(self) -> bool:
        """Return whether the source is open."""
        return self._stream is not None

    async def next(self) -> Any:
        """Give the next raw event after `at`, and move `at` there.

        Cancelled, it can be called again; the source is then opened anew.

        :raises StopAsyncIteration: the source has ended.
        :raises SharedStreamError: a call was cancelled, and without positions nobody knows where to go on.
        """
        if self._ended:
            raise StopAsyncIteration
        # A generator whose `anext` is cancelled is finished, which is not the end of the source.
        stream, self._stream = self._stream or self._open(), None
        try:
            raw = await anext(stream)
            while self._source.positioned and not self._forward(raw):
                raw = await anext(stream)
        except StopAsyncIteration:
            self._ended = True
            raise
        except BaseException:
            await close(stream)
            raise
        self._stream, self._given = stream, True
        return raw

    def _open(self) -> AsyncIterator[Any]:
        if self._given and not self._source.positioned and not self._source.snapshots:
            raise SharedStreamError(
                "waiting for the next raw event was cancelled, and without shared_stream_position() the place in the "
                "stream is lost with it; the watcher begins at its watermark"
            )
        return self._source.open(self.at)

    def _forward(self, raw: Any) -> bool:
        position = self._source.position(raw)
        if self.at is not None and not self.at < position:
            return False
        self.at = position
        return True

    async def aclose(self) -> None:
        """Close the source; `next` opens it again."""
        stream, self._stream = self._stream, None
        await close(stream)
