"""Let the `time` and `datetime` that a watcher's module uses follow the virtual clock."""

from __future__ import annotations

import datetime as real_datetime
import sys
import time as real_time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from .clock import VirtualClock

__all__ = ["follow_time"]


class _Module:
    """Be a module, but for some of its names."""

    def __init__(self, module: ModuleType, instead: dict[str, Any]) -> None:
        self.__dict__.update(instead)
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


class _AnyDatetime(type):
    """Count every datetime as an instance of the class that stands in for `datetime`."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, real_datetime.datetime)


def _datetime(clock: VirtualClock) -> type[real_datetime.datetime]:
    class Datetime(real_datetime.datetime, metaclass=_AnyDatetime):
        @classmethod
        def now(cls, tz: real_datetime.tzinfo | None = None) -> Any:
            return real_datetime.datetime.fromtimestamp(clock.microseconds() / 1e6, tz)

        @classmethod
        def utcnow(cls) -> Any:
            return cls.now(real_datetime.UTC).replace(tzinfo=None)

        @classmethod
        def today(cls) -> Any:
            return cls.now()

    return Datetime


def _replacements(clock: VirtualClock) -> dict[int, Any]:
    functions: dict[str, Callable[[], Any]] = {
        "time": lambda: clock.microseconds() / 1e6,
        "time_ns": lambda: clock.microseconds() * 1000,
        "monotonic": lambda: clock.seconds,
        "monotonic_ns": lambda: round(clock.seconds * 1e9),
    }
    stand_in = _datetime(clock)
    replaced: dict[int, Any] = {id(getattr(real_time, name)): new for name, new in functions.items()}
    replaced[id(real_time)] = _Module(real_time, dict(functions))
    replaced[id(real_datetime.datetime)] = stand_in
    replaced[id(real_datetime)] = _Module(real_datetime, {"datetime": stand_in})
    return replaced


@contextmanager
def follow_time(clock: VirtualClock, *names: str) -> Generator[None]:
    """Let modules read the virtual time, by `time.time`, `time.monotonic` and `datetime.now`, under whatever name.

    Only the names of the modules themselves are replaced, so that nobody else's time changes.

    :param clock: the virtual time.
    :param names: the modules' dotted names, as in `sys.modules`.
    """
    replaced = _replacements(clock)
    before: list[tuple[dict[str, Any], str, Any]] = []
    for module in [vars(sys.modules[name]) for name in dict.fromkeys(names) if name in sys.modules]:
        for name, value in list(module.items()):
            if id(value) in replaced:
                before.append((module, name, value))
                module[name] = replaced[id(value)]
    try:
        yield
    finally:
        for module, name, value in before:
            module[name] = value
