"""Standing between a watcher and what it talks to: its backend on one side, whoever runs it on the other."""

from __future__ import annotations

import inspect
import random
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, Protocol, cast
from weakref import WeakKeyDictionary

from asyncstore import BaseStoreBackend, Commit

from ..abc import BaseEventTrigger, BaseTrigger
from ..pacing import jitter_here

__all__ = ["Around", "Operation", "RunListener", "around_operations", "heard", "listening"]

_LIFE = {"aopen", "aclose"}
_nested: ContextVar[bool] = ContextVar("_nested", default=False)


@dataclass(frozen=True, slots=True)
class Operation:
    """Name a call of a backend.

    :ivar name: the coroutine's name.
    :ivar arguments: what it was called with, by position.
    :ivar blocking: a sync call made it: it must not suspend.
    """

    name: str
    arguments: tuple[Any, ...]
    blocking: bool

    @property
    def commit(self) -> Commit | None:
        """Return the commit, where it is one."""
        first = self.arguments[0] if self.arguments else None
        return first if self.name == "acommit" and isinstance(first, Commit) else None


#: Gets every operation of a backend, and awaits it, or not.
Around = Callable[[Operation, Callable[[], Awaitable[Any]]], Awaitable[Any]]


@contextmanager
def around_operations(backend: BaseStoreBackend, around: Around) -> Generator[None]:
    """Send every coroutine that a backend offers through a function, and through those of others who do the same.

    The object is changed, not its class: a store that holds it notices nothing, and a final class is no obstacle.
    What an operation calls of its own backend in turn belongs to it and is left alone.

    :param backend: the backend.
    :param around: awaits the operations.
    """
    between = _between.get(backend)
    if between is None:
        between = _between[backend] = _Between(backend)
    between.arounds.append(around)
    try:
        yield
    finally:
        between.arounds.remove(around)
        if not between.arounds:
            del _between[backend]
            between.leave()


class _Between:
    """Stand between a backend and its callers.

    :param backend: the backend, whose object is changed until `leave`.
    """

    def __init__(self, backend: BaseStoreBackend) -> None:
        self.arounds: list[Around] = []
        self._thread = threading.local()
        self._own = vars(backend)
        self._run_blocking = backend.run_blocking
        new: dict[str, Any] = {
            name: self._through(name, getattr(backend, name))
            for name, _ in inspect.getmembers(type(backend), inspect.iscoroutinefunction)
            if name.startswith("a") and name not in _LIFE
        }
        new["run_blocking"] = self._block
        self._before = {name: self._own[name] for name in new if name in self._own}
        self._names = tuple(new)
        self._own.update(new)

    def leave(self) -> None:
        """Give the backend back as it was."""
        for name in self._names:
            del self._own[name]
        self._own.update(self._before)

    def _block(self, function: Callable[[], Awaitable[Any]]) -> Any:
        before, self._thread.blocking = getattr(self._thread, "blocking", False), True
        try:
            return self._run_blocking(function)
        finally:
            self._thread.blocking = before

    def _through(self, name: str, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def operation(*args: Any, **kwargs: Any) -> Any:
            if _nested.get():
                return await call(*args, **kwargs)

            async def inner() -> Any:
                token = _nested.set(True)
                try:
                    return await call(*args, **kwargs)
                finally:
                    _nested.reset(token)

            step: Callable[[], Awaitable[Any]] = inner
            described = Operation(name, args, getattr(self._thread, "blocking", False))
            for around in self.arounds:
                step = partial(around, described, step)
            return await step()

        return operation


_between: WeakKeyDictionary[BaseStoreBackend, _Between] = WeakKeyDictionary()


class RunListener(Protocol):
    """Hear of what the `run` of a watcher does, or its filter of a shared stream."""

    def run_prepared(self) -> None:
        """Note that the current task is about to make an attempt, and to open what it reads where that is shared."""
        ...

    def run_started(self, events: AsyncIterator[Any]) -> None:
        """Note an attempt: `run` was called and gave this iterator."""
        ...

    def run_entered(self) -> None:
        """Note that the iterator goes on, in the current task."""
        ...

    def run_left(self, error: Exception | None) -> None:
        """Note that the iterator stands at a `yield`, or raised; with `StopAsyncIteration`, that it is done."""
        ...


_listener: ContextVar[RunListener | None] = ContextVar("_listener", default=None)
_heard_kinds: Counter[type[BaseTrigger]] = Counter()
_lock = threading.Lock()


def listening(listener: RunListener) -> Context:
    """Give a context in which the listener hears of what the triggers do that `heard` named, and nothing is by chance.

    :param listener: what hears; in every task that starts in this context, and in those that they start.
    """
    context = copy_context()
    context.run(_listener.set, listener)
    context.run(jitter_here.set, random.Random(0))  # noqa: S311 - no secret
    return context


@contextmanager
def heard(kind: type[BaseTrigger]) -> Generator[None]:
    """Let what a class of triggers does be heard: its `run`, or its filter where it shares a stream.

    The class, because whoever runs triggers makes them anew for each attempt.

    :param kind: the class.
    """
    with _lock:
        _heard_kinds[kind] += 1
        if _heard_kinds[kind] == 1:
            for name, hook in _hooks(kind).items():
                vars(hook)["_own"] = vars(kind).get(name)
                setattr(kind, name, hook)
    try:
        yield
    finally:
        with _lock:
            _heard_kinds[kind] -= 1
            if not _heard_kinds[kind]:
                _restore(kind)


def _hooks(kind: type[BaseTrigger]) -> dict[str, Any]:
    hooks: dict[str, Any] = {}
    if not inspect.iscoroutinefunction(kind.run):  # no generator; whoever runs it says so
        hooks["run"] = _hearing(kind.run)
    if issubclass(kind, BaseEventTrigger):
        hooks["bind"] = _preparing(kind.bind)
        if not inspect.iscoroutinefunction(kind.filter_shared_stream):
            hooks["filter_shared_stream"] = _hearing(kind.filter_shared_stream)
    return hooks


def _hearing(hook: Any) -> Any:
    @wraps(hook)
    def hear(self: BaseTrigger, *args: Any) -> AsyncIterator[Any]:
        listener, own = _listener.get(), vars(self)
        # `run` may be made of the filter, and is heard once.
        if listener is None or "_is_heard" in own:
            return cast("AsyncIterator[Any]", hook(self, *args))
        own["_is_heard"] = True
        events: AsyncIterator[Any] = hook(self, *args)
        if not hasattr(events, "__anext__"):
            return events  # whoever runs it says so
        listener.run_started(events)
        return _Heard(events, listener)

    return hear


def _preparing(bind: Any) -> Any:
    @wraps(bind)
    def prepare(self: BaseTrigger, *args: Any, **kwargs: Any) -> None:
        listener = _listener.get()
        if listener is not None:
            listener.run_prepared()
        bind(self, *args, **kwargs)

    return prepare


def _restore(kind: type[BaseTrigger]) -> None:
    for name in ("run", "bind", "filter_shared_stream"):
        hook: Any = vars(kind).get(name)
        if hook is None or not hasattr(hook, "_own"):
            continue
        if hook._own is None:
            delattr(kind, name)  # inherited
        else:
            setattr(kind, name, hook._own)


class _Heard:
    """Be the iterator that `run` gave, as far as a triggerer can tell."""

    def __init__(self, events: Any, listener: RunListener) -> None:
        self._events = events
        self._listener = listener
        # What an iterator lacks, it goes on lacking.
        if hasattr(events, "athrow"):
            self.athrow = partial(self._step, events.athrow)
        if hasattr(events, "aclose"):
            self.aclose = events.aclose

    def __aiter__(self) -> _Heard:
        return self

    def __anext__(self) -> Awaitable[Any]:
        return self._step(self._events.__anext__)

    async def _step(self, step: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        failure: Exception | None = None
        self._listener.run_entered()
        try:
            return await step(*args)
        except Exception as error:
            failure = error
            raise
        finally:
            self._listener.run_left(failure)
