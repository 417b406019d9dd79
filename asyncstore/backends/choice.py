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
from ..offload.hooks import hooks_of
from ..settings import Settings

__all__ = ["choose", "choose_worker"]

_OPTION = "[state_store] backend"
_WORKER_OPTION = "[workers] state_backend"
_METASTORE = "asyncstore.backends.metastore.backend.MetastoreBackend"


def choose(settings: Settings, clock: Clock | None) -> Callable[[], BaseStoreBackend]:
    """Import the backend that the settings name; with one of the user's own, no metastore is opened.

    :param settings: the options.
    :param clock: tells when values expire; None for the system's, or the database's own.
    :return: makes the backend; to be called where it is used, since it may be bound to a thread or an event loop.
    :raises ConfigurationError: the dotted path does not lead to a backend.
    """
    path = settings.state_store.backend
    kind = None if path is None else _load(_OPTION, path)
    if path is not None and kind is not None and f"{kind.__module__}.{kind.__qualname__}" != _METASTORE:
        return partial(_make, _OPTION, path, kind, settings, clock or SystemClock())
    # SQLAlchemy is imported here and below only.
    from .metastore import MetastoreBackend

    return partial(MetastoreBackend, clock=clock, **dict(settings.database))


def choose_worker(settings: Settings, clock: Clock | None) -> Callable[[], BaseStoreBackend] | None:
    """Import the worker-side backend that the settings name.

    :param settings: the options.
    :param clock: tells when values expire; None for the system's.
    :return: makes the backend; None where none is named.
    :raises ConfigurationError: the dotted path does not lead to a backend that defines any of the hooks.
    """
    path = settings.workers.backend
    if path is None:
        return None
    kind = _load(_WORKER_OPTION, path)
    if not hooks_of(kind):
        raise ConfigurationError(
            f"{_WORKER_OPTION}: {path!r} keeps no values: it defines neither serialize_task_store_to_ref nor "
            "serialize_asset_store_to_ref"
        )
    return partial(_make, _WORKER_OPTION, path, kind, settings, clock or SystemClock())


def _load(option: str, path: str) -> type[BaseStoreBackend]:
    module, _, name = path.rpartition(".")
    if not module:
        raise ConfigurationError(f"{option}: {path!r} is no dotted path of a class, such as 'package.module.Class'")
    try:
        found: Any = getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:
        raise ConfigurationError(f"{option}: {path!r} cannot be imported: {type(error).__name__}: {error}") from error
    if not (inspect.isclass(found) and issubclass(found, BaseStoreBackend)):
        raise ConfigurationError(f"{option}: {path!r} is no subclass of asyncstore.BaseStoreBackend")
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise ConfigurationError(f"{option}: {path!r} does not define {missing}")
    return found


def _make(option: str, path: str, kind: type[BaseStoreBackend], settings: Settings, clock: Clock) -> BaseStoreBackend:
    make = cast("Callable[..., BaseStoreBackend]", kind)
    parameters = inspect.signature(kind).parameters
    given = {"clock": clock, "settings": settings}
    try:
        return make(**{name: value for name, value in given.items() if name in parameters})
    except ConfigurationError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigurationError(f"{option}: {path!r} could not be made: {type(error).__name__}: {error}") from error
