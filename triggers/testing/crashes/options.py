"""What can be said about how a watcher is crashed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

from asyncstore import Asset, Settings, TriggererSettings

from .story import Fault, identify_by_payload

__all__ = ["CrashOptions", "Options", "Payloads"]

#: Payloads, or what gives them at the end of a run.
Payloads = Iterable[Any] | Callable[[], Iterable[Any]]


class CrashOptions(TypedDict, total=False):
    """Say what is watched, what should come of it, and what goes wrong; each may be left out.

    :ivar asset: the watched asset. Default: `Asset("watched")`.
    :ivar source: puts what is watched back to its beginning; called before each run.
    :ivar between: changes what is watched while nobody watches; called between a crash and the restart.
    :ivar expected: the payloads that should be in the log, or what gives them at the end of a run. Default: what a
        run gives in which nothing goes wrong.
    :ivar optional: payloads that may be in the log, too, once each; say, versions of a file that `between` replaced.
    :ivar identify: what tells payloads apart. Default: all of the payload.
    :ivar ordered: whether the order of events counts. Default: it does.
    :ivar faults: what goes wrong: `Fault.KILL` by default, or errors of the database, at each operation or commit.
    :ivar again: points of the restarted watcher at which it is killed a second time, each after every first one.
    :ivar take: for a source without end, how many events are enough.
    :ivar settings: of the store and the triggerer. Default: neither a file nor the environment is read, and the lease
        is long, so that a quiet hour has few heartbeats.
    :ivar quiet: virtual seconds without an event that end a run; more than the watcher ever sleeps. Default: 7,200.
    :ivar idle: suspensions of the watcher without an event that end a run; more than it takes from one event to the
        next. A tenth of it is enough once all that is expected is there. Default: 1,000.
    :ivar downtime: virtual seconds between a crash and the restart; longer than a lease. Default: 600.
    :ivar follow: dotted names of modules whose `time` and `datetime` follow the virtual clock, besides that of the
        trigger's class.
    :ivar limit: how many points of a kind to try at most. Default: 2,000.
    """

    asset: Asset
    source: Callable[[], object]
    between: Callable[[], object]
    expected: Payloads
    optional: Payloads
    identify: Callable[[Any], Hashable]
    ordered: bool
    faults: Sequence[Fault]
    again: Sequence[int]
    take: int
    settings: Settings
    quiet: float
    idle: int
    downtime: float
    follow: Sequence[str]
    limit: int


def _nothing() -> None:
    return None


def _settings() -> Settings:
    return Settings(triggerer=TriggererSettings(lease=500.0, heartbeat_interval=250.0, block_warning=0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Hold the options, with their defaults; see `CrashOptions`."""

    asset: Asset | None = None
    source: Callable[[], object] = _nothing
    between: Callable[[], object] = _nothing
    expected: Payloads | None = None
    optional: Payloads = ()
    identify: Callable[[Any], Hashable] = identify_by_payload
    ordered: bool = True
    faults: Sequence[Fault] = (Fault.KILL,)
    again: Sequence[int] = ()
    take: int | None = None
    settings: Settings = field(default_factory=_settings)
    quiet: float = 7200.0
    idle: int = 1000
    downtime: float = 600.0
    follow: Sequence[str] = ()
    limit: int = 2000
