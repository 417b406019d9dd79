"""What a fleet is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from ..records import WatcherOrder

__all__ = ["Claim", "Declared", "Load", "Member", "Peer", "Standing", "Survey", "TriggererRecord"]


@dataclass(frozen=True, slots=True)
class Member:
    """Hold a triggerer's place in the fleet.

    :ivar id: never used again.
    :ivar declares: names the set of watchers that it can run; equal for equal sets.
    """

    id: int
    declares: str


@dataclass(frozen=True, slots=True)
class Declared:
    """Name a watcher that a triggerer can run.

    :ivar watcher_id: the watcher.
    :ivar asset_id: the watched asset.
    :ivar name: the watcher's name.
    """

    watcher_id: int
    asset_id: int
    name: str


@dataclass(frozen=True, slots=True)
class Peer:
    """Hold what members know of each other.

    :ivar id: the member.
    :ivar owner: who it is, for people.
    :ivar process: names its process on its machine, see `ajoin`; None where it does not say.
    :ivar capacity: how many watchers it runs at most.
    :ivar declares: names the set of watchers that it can run.
    :ivar draining: it takes no more.
    :ivar remaining: what is left of its lease; nothing where it has run out.
    """

    id: int
    owner: str
    process: str | None
    capacity: int
    declares: str
    draining: bool
    remaining: timedelta


@dataclass(frozen=True, slots=True)
class Survey:
    """Hold what a member sees when it looks around.

    :ivar peers: every member, itself included.
    :ivar free: the declared watchers that wait for somebody to run them.
    :ivar orders: what people ask of the watchers that the member has.
    """

    peers: tuple[Peer, ...]
    free: tuple[int, ...]
    orders: Mapping[int, WatcherOrder]


@dataclass(frozen=True, slots=True)
class Load:
    """Hold what there is to divide.

    :ivar runnable: for each set of watchers, those that somebody should run; with one set, only how many they are.
    :ivar held: how many watchers each member has.
    """

    runnable: Mapping[str, frozenset[int] | int]
    held: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Standing:
    """Hold how many watchers a member can run.

    :ivar declared: those that there are.
    :ivar unfinished: those of them that are not done.
    """

    declared: int
    unfinished: int


@dataclass(frozen=True, slots=True)
class Claim:
    """Hold a watcher that was claimed.

    :ivar watcher_id: the watcher.
    :ivar fence: the fencing number of the claim.
    """

    watcher_id: int
    fence: int


@dataclass(frozen=True, slots=True)
class TriggererRecord:
    """Hold what is known of a triggerer.

    :ivar id: its place in the fleet.
    :ivar owner: who it is, for people: host and process.
    :ivar capacity: how many watchers it runs at most.
    :ivar running: how many it has.
    :ivar draining: it is about to end, and takes no more.
    :ivar started_at: since when it is there, in UTC.
    :ivar lease_age: since when its lease was not renewed.
    :ivar lease_remaining: what is left of it; negative where it has run out.
    """

    id: int
    owner: str
    capacity: int
    running: int
    draining: bool
    started_at: datetime
    lease_age: timedelta
    lease_remaining: timedelta
