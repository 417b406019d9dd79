"""The door: which watchers share which stream."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Hashable
from functools import partial

import anyio
from anyio.abc import TaskGroup

from asyncstore import JsonValue, TriggererSettings

from ..abc import BaseEventTrigger, BaseTrigger, source_of
from ..errors import InvalidTriggerError
from ..events import TriggerEvent
from ..pacing import Backoff, Drain
from .acknowledging import AcknowledgingFeed
from .alone import filtered
from .derived import Stream
from .feed import Feed
from .source import Source
from .subscription import Subscription
from .terms import Terms

__all__ = ["StreamHub", "key_of"]

logger = logging.getLogger("triggers")

#: The very class and its key: two classes whose keys happen to be equal share nothing.
_Key = tuple[type[BaseEventTrigger], Hashable]


class StreamHub:
    """Share streams among the watchers of one process.

    The promise: every watcher commits what its filter would derive from a stream of its own, and a slow, late,
    failing or restarted one never delays its siblings; behind a producer, which cannot be read twice, it delays them
    as little as `AcknowledgingFeed` says. A stream is open while somebody reads it; an acknowledging one, while a
    watcher of it is known. Where its source raises, every subscriber's stream raises, so that each watcher begins at
    its watermark, and the source is opened again no sooner than after a backoff.

    :param settings: buffer and delays.
    :param drain: what shields the closing of sources, and for how long.
    """

    def __init__(self, settings: TriggererSettings, drain: Drain | None = None) -> None:
        self._settings = settings
        self._drain = drain or Drain(settings.drain_timeout)
        self._tasks: TaskGroup | None = None
        #: What newcomers read.
        self._feeds: dict[_Key, Feed | AcknowledgingFeed] = {}
        #: Every open one and who reads it; those, too, that have forgotten what a newcomer needs.
        self._readers: dict[Feed, int] = {}
        self._members: dict[_Key, dict[Hashable, None]] = {}
        self._keys: dict[Hashable, _Key] = {}
        self._backoffs: dict[_Key, tuple[Backoff, float]] = {}

    def start(self, tasks: TaskGroup) -> None:
        """Open streams from now on, in tasks of a group; to cancel it closes them.

        :param tasks: the group; it outlives the watchers.
        """
        self._tasks = tasks

    def expect(self, name: Hashable, trigger: BaseTrigger) -> None:
        """Count a watcher among those that answer what an acknowledging stream gives out from now on.

        To be called as soon as this process means to run the watcher, for all before any is started; `events_of` does
        it, too.

        :param name: the watcher.
        :param trigger: its trigger.
        :raises InvalidTriggerError: its key cannot be hashed.
        """
        key = key_of(trigger)
        before = self._keys.get(name)
        if before is not None and before != key:
            self.retire(name)
        if key is None:
            return
        self._keys[name] = key
        self._members.setdefault(key, {})[name] = None
        feed = self._feeds.get(key)
        if isinstance(feed, AcknowledgingFeed):
            feed.expect(name)

    def events_of(
        self, name: Hashable, trigger: BaseTrigger, kwargs: dict[str, JsonValue]
    ) -> AsyncIterator[TriggerEvent]:
        """Give a trigger's events, in place of its `run()`, shared or not.

        The events are to be treated as those of `run()` are: asking for the next one says that the one before is
        committed, `athrow` says that it was refused, and `aclose` ends the attempt.

        :param name: the watcher, whichever attempt it is.
        :param trigger: the trigger of this attempt, bound to its asset.
        :param kwargs: its arguments.
        :raises InvalidTriggerError: its key cannot be hashed, or a hook is no async generator.
        """
        self.expect(name, trigger)
        key = key_of(trigger)
        if key is None or not isinstance(trigger, BaseEventTrigger):
            return trigger.run()
        feed = self._feeds.get(key)
        if feed is None or (isinstance(feed, Feed) and not feed.serves_newcomers):
            feed = self._open(key, source_of(trigger, kwargs))
        stream: Stream
        if isinstance(feed, AcknowledgingFeed):
            stream = feed.subscribe(name)
            leave = None
        else:
            self._readers[feed] = self._readers.get(feed, 0) + 1
            leave = partial(self._leave, key, feed)
            stream = Subscription(feed, since=trigger.shared_stream_since, on_close=leave)
        try:
            return filtered(trigger, stream)
        except BaseException:
            if leave is not None:
                leave()
            raise

    def retire(self, name: Hashable, *, elsewhere: bool = False) -> None:
        """Forget a watcher that this process does not run any more: it is done, not declared any more, or lost.

        :param name: the watcher.
        :param elsewhere: another process runs it. What it has not answered is delivered again then; else its answer
            is not waited for any more.
        """
        key = self._keys.pop(name, None)
        if key is None:
            return
        members = self._members[key]
        members.pop(name, None)
        feed = self._feeds.get(key)
        if isinstance(feed, AcknowledgingFeed):
            feed.retire(name, elsewhere=elsewhere)
            if not members:
                feed.stop()
                del self._feeds[key]
        if not members:
            del self._members[key]
            self._backoffs.pop(key, None)

    def _open(self, key: _Key, source: Source) -> Feed | AcknowledgingFeed:
        if self._tasks is None:
            raise RuntimeError("the hub is not started")
        terms = Terms(
            size=self._settings.shared_stream_buffer,
            opens_at=self._backoffs[key][1] if key in self._backoffs else anyio.current_time(),
            patience=self._settings.shared_stream_patience,
            closing=self._settings.drain_timeout,
            drain=self._drain,
            on_end=partial(self._ended, key),
        )
        producer = source.kind.create_shared_stream_producer(source.kwargs)
        feed = Feed(source, terms) if producer is None else AcknowledgingFeed(producer, self._members[key], terms)
        self._feeds[key] = feed
        self._tasks.start_soon(feed.run, name=f"shared stream: {key[0].__qualname__} {key[1]!r:.100}")
        return feed

    def _ended(self, key: _Key, feed: object, error: Exception | None, ran_for: float) -> None:
        is_newest = self._feeds.get(key) is feed
        if is_newest:
            del self._feeds[key]
        is_read = isinstance(feed, Feed) and self._readers.pop(feed, None) is not None
        if error is None or not (is_newest or is_read):
            return
        settings = self._settings
        backoff, _ = self._backoffs.get(key) or (
            Backoff(settings.restart_delay, settings.restart_delay_max, settings.healthy_after),
            0.0,
        )
        delay = backoff.next(ran_for)
        self._backoffs[key] = (backoff, anyio.current_time() + delay)
        logger.error(
            "the shared stream %r of %s failed and may be opened again in %.1f s",
            key[1],
            key[0].__qualname__,
            delay,
            exc_info=error,
        )

    def _leave(self, key: _Key, feed: Feed) -> None:
        if feed not in self._readers:
            return  # it has ended
        self._readers[feed] -= 1
        if not self._readers[feed]:
            feed.stop()
            del self._readers[feed]
            if self._feeds.get(key) is feed:
                del self._feeds[key]


def key_of(trigger: BaseTrigger) -> _Key | None:
    """Give what is equal for triggers that share a stream; None where a trigger shares none.

    :raises InvalidTriggerError: its `shared_stream_key()` gave what cannot be a key.
    """
    if not isinstance(trigger, BaseEventTrigger):
        return None
    kind = type(trigger)
    key = trigger.shared_stream_key()
    if key is None:
        return None
    try:
        hash(key)
    except TypeError as error:
        raise InvalidTriggerError(f"{kind.__qualname__}.shared_stream_key() gave {key!r}: {error}") from error
    return kind, key
