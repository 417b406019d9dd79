"""Which backend the settings mean."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from ..abc import BaseStoreBackend
from ..clock import Clock, SystemClock
from ..errors import ConfigurationError
from ..settings import Settings

__all__ = ["choose"]

_OPTION = "[state_store] backend"
_METASTORE = "asyncstore.backends.metastore.backend.MetastoreBackend"


def choose(settings: Settings, clock: Clock | None) -> Callable[[], BaseStoreBackend]:
    """Import the backend that the settings name; with one of the user's own, no metastore is opened.

    :param settings: the options.
    :param clock: tells when values expire; None for the system's, or the database's own.
    :return: makes the backend; to be called where it is used, since it may be bound to a thread or an event loop.
    :raises ConfigurationError: the dotted path does not lead to a backend.
    """
    path = settings.state_store.backend
    kind = None if path is None else _load(path)
    if path is not None and kind is not None and f"{kind.__module__}.{kind.__qualname__}" != _METASTORE:
        return partial(_make, path, kind, clock or SystemClock())
    # SQLAlchemy is imported here and below only.
    from .metastore import MetastoreBackend

    return partial(MetastoreBackend, clock=clock, **dict(settings.database))


def _load(path: str) -> type[BaseStoreBackend]:
    module, _, name = path.rpartition(".")
    if not module:
        raise ConfigurationError(f"{_OPTION}: {path!r} is no dotted path of a class, such as 'package.module.Class'")
    try:
        found: Any = getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:
        raise ConfigurationError(f"{_OPTION}: {path!r} cannot be imported: {type(error).__name__}: {error}") from error
    if not (inspect.isclass(found) and issubclass(found, BaseStoreBackend)):
        raise ConfigurationError(f"{_OPTION}: {path!r} is no subclass of asyncstore.BaseStoreBackend")
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise ConfigurationError(f"{_OPTION}: {path!r} does not define {missing}")
    return found


def _make(path: str, kind: type[BaseStoreBackend], clock: Clock) -> BaseStoreBackend:
    make = cast("Callable[..., BaseStoreBackend]", kind)
    try:
        return make(clock=clock) if "clock" in inspect.signature(kind).parameters else make()
    except ConfigurationError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigurationError(f"{_OPTION}: {path!r} could not be made: {type(error).__name__}: {error}") from error
