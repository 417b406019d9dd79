"""Which backend the settings mean."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any, cast

from ..abc import BaseStoreBackend
from ..clock import Clock
from ..errors import ConfigurationError
from ..settings import Settings

__all__ = ["choose"]

_OPTION = "[state_store] backend"


def choose(settings: Settings, clock: Clock) -> BaseStoreBackend:
    """Make the backend that the settings name; with one of the user's own, no metastore is opened.

    :param settings: the options.
    :param clock: tells when values expire.
    :raises ConfigurationError: the dotted path does not lead to a backend.
    """
    path = settings.state_store.backend
    if path is None:
        # SQLAlchemy is imported here and below only.
        from .metastore import MetastoreBackend

        database = settings.database
        return MetastoreBackend(
            database.url, lock_timeout=database.lock_timeout, durability=database.durability, clock=clock
        )
    return _make(path, _load(path), clock)


def _load(path: str) -> type[BaseStoreBackend]:
    module, _, name = path.rpartition(".")
    if not module:
        raise ConfigurationError(f"{_OPTION}: {path!r} is no dotted path of a class, such as 'package.module.Class'")
    try:
        found: Any = getattr(importlib.import_module(module), name)
    except Exception as error:
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
    except Exception as error:
        raise ConfigurationError(f"{_OPTION}: {path!r} could not be made: {type(error).__name__}: {error}") from error
