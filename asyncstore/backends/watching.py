"""Who waits for which key, and who wakes them."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator
from itertools import chain

from ..changes import Change, Clear, Commit
from ..clock import Clock, to_microseconds
from ..records import StoredEntry
from ..scopes import AssetScope, Scope, TaskScope

__all__ = ["ALWAYS_TOLD", "WatchHub", "Watched", "word_of_events"]

#: Seconds between two looks for other processes' commits and for values that expired: one look per backend and
#: event loop, however many keys are watched.
INTERVAL = 0.1
#: The same where nobody watches a key: whoever waits for a word alone looks by itself, too.
_WORDS_INTERVAL = 0.5
#: Of those who wait for a word alone; no key has a NUL in it.
_NO_KEY = "\0"
#: Told whether or not somebody waits, for it is told seldom.
ALWAYS_TOLD = ("fleet",)


class Watched(enum.Enum):
    """What is waited for: by this others know whether they have to tell."""

    NOTHING = 0
    ALWAYS_TOLD = 1
    COMMITS = 2


class _Waiter:
    __slots__ = ("event", "expires_at", "key", "loop", "scope", "words")

    def __init__(self, key: str, scope: Scope | None, words: tuple[str, ...]) -> None:
        self.words = words
        self.key = key
        self.scope = scope
        self.loop = asyncio.get_running_loop()
        self.event = asyncio.Event()
        self.expires_at: int | None = None

    def concerns(self, change: Change) -> bool:
        """Tell whether a change may be one of this key; in doubt it may."""
        mine, other = self.scope, change.scope
        if isinstance(mine, TaskScope) and isinstance(other, TaskScope):
            if isinstance(change, Clear) and change.all_map_indices:
                return (mine.dag_id, mine.run_id, mine.task_id) == (other.dag_id, other.run_id, other.task_id)
            return mine == other
        if isinstance(mine, AssetScope) and isinstance(other, AssetScope):
            # One may go by its name, the other by its id.
            return mine.asset_id is None or other.asset_id is None or mine.asset_id == other.asset_id
        return mine is None and self.key != _NO_KEY


class _Poller:
    """Hold who waits on one event loop, and the task that looks for them."""

    __slots__ = ("task", "waiters")

    def __init__(self, task: asyncio.Task[None]) -> None:
        self.task = task
        self.waiters: set[_Waiter] = set()


def word_of_events(asset: AssetScope) -> str:
    """Give the word by which is told that an asset has new events.

    :param asset: its canonical scope.
    """
    return f"e{asset.asset_id}"


class WatchHub:
    """Let `awatch` iterators of one backend wait together.

    :param clock: tells when values expire.
    :param foreign: gives a number that changes when another process commits; None where no other process can.
    :param words: gives the words by which others tell that a key changed, nothing where any word may mean it; None
        where nobody tells.
    """

    def __init__(
        self,
        clock: Clock,
        foreign: Callable[[], Awaitable[int]] | None = None,
        words: Callable[[Scope, str], tuple[str, ...]] | None = None,
    ) -> None:
        self._clock = clock
        self._foreign = foreign
        self._words = words
        self._by_word: dict[str, set[_Waiter]] = {}
        self._lock = threading.Lock()
        self._by_key: dict[str, set[_Waiter]] = {}
        self._pollers: dict[asyncio.AbstractEventLoop, _Poller] = {}

    def committed(self, commit: Commit) -> None:
        """Wake those who watch a key of a commit; from any thread, after it is visible."""
        if not self._by_key:
            return
        with self._lock:
            waiters = {
                waiter
                for change in commit.changes
                for waiter in (self._everybody() if isinstance(change, Clear) else self._by_key.get(change.key, ()))
                if waiter.concerns(change)
            }
            if commit.events and commit.lease is not None:
                waiters |= self._by_word.get(word_of_events(commit.lease.asset), set())
        self._wake(waiters)

    def changed(self) -> None:
        """Wake everybody; from any thread."""
        with self._lock:
            waiters = set(self._everybody())
        self._wake(waiters)

    @property
    def is_watched(self) -> bool:
        """Tell whether somebody watches."""
        return bool(self._by_key)

    def told(self, words: Iterable[str]) -> None:
        """Wake those who watch what the words name; from any thread."""
        with self._lock:
            waiters = set(self._by_word.get("", ()))
            for word in words:
                waiters |= self._by_word.get(word, set())
        self._wake(waiters)

    def tell(self, words: Iterable[str] | None) -> None:
        """Wake those who wait for words, or for None everybody; from any thread."""
        if words is None:
            self.changed()
        elif words:
            self.told(words)

    def watched_on(self, loop: asyncio.AbstractEventLoop) -> Watched:
        """Tell what somebody waits for on an event loop."""
        with self._lock:
            poller = self._pollers.get(loop)
            if poller is None:
                return Watched.NOTHING
            told = all(waiter.words == ALWAYS_TOLD for waiter in poller.waiters)
            return Watched.ALWAYS_TOLD if told else Watched.COMMITS

    @contextlib.contextmanager
    def listening(self, word: str) -> Generator[asyncio.Event]:
        """Give an event that is set when somebody tells a word, or anything may have changed.

        :param word: the word.
        """
        waiter = _Waiter(_NO_KEY, None, (word,))
        self._add(waiter)
        try:
            yield waiter.event
        finally:
            self._remove(waiter)

    def _everybody(self) -> Iterator[_Waiter]:
        return chain.from_iterable(self._by_key.values())

    def _wake(self, waiters: set[_Waiter]) -> None:
        for waiter in waiters:
            try:
                waiter.loop.call_soon_threadsafe(waiter.event.set)
            except RuntimeError:  # its loop is closed, and so nobody waits
                self._remove(waiter)

    async def follow(
        self, key: str, read: Callable[[], Awaitable[StoredEntry | None]], *, scope: Scope | None = None
    ) -> AsyncIterator[str | None]:
        """Yield the text now, and after every change that the reader keeps up with; never miss the last one.

        :param key: the key.
        :param read: reads it.
        :param scope: what it belongs to, so that commits to other scopes wake nobody here; None where all may matter.
        """
        words = () if self._words is None or scope is None else self._words(scope, key)
        waiter = _Waiter(key, scope, words or ("",))
        self._add(waiter)
        try:
            last = -1
            while True:
                # Cleared before the read: a change after the read ends the wait below.
                waiter.event.clear()
                entry = await read()
                expiry = None if entry is None else entry.expires_at
                waiter.expires_at = None if expiry is None else to_microseconds(expiry)
                version = 0 if entry is None else entry.version
                if version != last:
                    last = version
                    yield None if entry is None else entry.text
                await waiter.event.wait()
        finally:
            self._remove(waiter)

    async def hear(self, word: str) -> AsyncIterator[None]:
        """Yield when a word is told, and whenever it may have been; whoever was slow is told once of several.

        :param word: the word.
        """
        with self.listening(word) as told:
            while True:
                await told.wait()
                told.clear()
                yield

    def _add(self, waiter: _Waiter) -> None:
        with self._lock:
            if waiter.key == _NO_KEY and self._foreign is None:
                # A word comes from this process, or not at all: there is nothing to look for.
                self._index(waiter)
                return
            poller = self._pollers.get(waiter.loop)
            if poller is None or poller.task.done():
                task = waiter.loop.create_task(self._poll(waiter.loop), name="asyncstore watch poller")
                new = self._pollers[waiter.loop] = _Poller(task)
                if poller is not None:
                    new.waiters = poller.waiters
                poller = new
            poller.waiters.add(waiter)
            self._index(waiter)

    def _index(self, waiter: _Waiter) -> None:
        self._by_key.setdefault(waiter.key, set()).add(waiter)
        for word in waiter.words:
            self._by_word.setdefault(word, set()).add(waiter)

    def _remove(self, waiter: _Waiter) -> None:
        with self._lock:
            _discard(self._by_key, waiter.key, waiter)
            for word in waiter.words:
                _discard(self._by_word, word, waiter)
            poller = self._pollers.get(waiter.loop)
            if poller is None:
                return
            poller.waiters.discard(waiter)
            if not poller.waiters:
                del self._pollers[waiter.loop]
                with contextlib.suppress(RuntimeError):
                    poller.task.cancel()

    async def _poll(self, loop: asyncio.AbstractEventLoop) -> None:
        seen = None
        while True:
            # The poller must outlive an error: those it wakes read for themselves, and raise it to their readers.
            try:
                current = None if self._foreign is None else await self._foreign()
            except Exception:
                current, seen = None, -1
            now = self._clock.microseconds()
            with self._lock:
                poller = self._pollers.get(loop)
                waiters = [] if poller is None else list(poller.waiters)
            for waiter in waiters:
                if current != seen or (waiter.expires_at is not None and waiter.expires_at <= now):
                    waiter.event.set()
            seen = current
            keys = any(waiter.key != _NO_KEY for waiter in waiters)
            await asyncio.sleep(INTERVAL if keys else _WORDS_INTERVAL)


def _discard(index: dict[str, set[_Waiter]], word: str, waiter: _Waiter) -> None:
    same = index.get(word, set())
    same.discard(waiter)
    if not same:
        index.pop(word, None)
