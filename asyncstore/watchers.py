"""The store's side of a watcher: what a claim allows to read, write and commit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from .accessors import AssetStoreAccessors
from .changes import Commit, NewEvent, Put
from .core import Core
from .records import Event, Lease, WatcherState
from .scopes import Asset, check_key
from .values import decode

__all__ = ["Checkpoint", "ClaimedWatcher"]

#: Keys and values of the watched asset, or such mappings by asset.
Checkpoint = Mapping[str, Any] | Mapping[Asset, Mapping[str, Any]]


@final
class ClaimedWatcher:
    """Read, write and commit for one watcher, until somebody else claims it.

    Every write checks the claim inside its own transaction.

    :param core: the store's core.
    :param asset: the watched asset.
    :param lease: the claim.
    """

    __slots__ = ("_asset", "_asset_state", "_core", "lease")

    def __init__(self, core: Core, asset: Asset, lease: Lease) -> None:
        self._core = core
        self._asset = asset
        self._asset_state: AssetStoreAccessors | None = None
        self.lease = lease

    @property
    def updated_by(self) -> str:
        """Return who writes, as it is kept beside each value."""
        return f"watcher:{self.lease.asset.name}/{self.lease.name}"

    @property
    def asset_state(self) -> AssetStoreAccessors:
        """Return the state of any asset; of the watched one, without subscript."""
        if self._asset_state is None:
            declared = [(self._asset, self.lease.asset)]
            self._asset_state = AssetStoreAccessors(self._core, declared, updated_by=self.updated_by, lease=self.lease)
        return self._asset_state

    def __repr__(self) -> str:
        return f"<ClaimedWatcher {self.lease.name!r} of {self.lease.asset}, fence {self.lease.fence}>"

    async def prepare(self, payload: object, key: str | None, checkpoint: Checkpoint | None) -> Commit:
        """Check an event and its checkpoint, and make the commit of the two.

        :param payload: any JSON value; None for an event that says nothing more.
        :param key: makes the event idempotent.
        :param checkpoint: values to write in the same transaction.
        :raises TypeError: something is of another type.
        :raises ValueError: something is refused.
        """
        text = "null" if payload is None else self._core.encode_inline("(event payload)", payload)
        if key is not None:
            check_key(key)
        puts: list[Put] = []
        for asset, values in self._by_asset(checkpoint):
            scope = self.lease.asset if asset == self._asset else await self._core.resolve_anew(asset)
            for name, value in sorted(values.items()):
                check_key(name)
                puts.append(Put(scope, name, self._core.encode(name, value)))
        commit = Commit(tuple(puts), (NewEvent(text, key),), self.lease, self.updated_by)
        return await self._core.prepare(commit) if self._core.keeps else commit

    def _by_asset(self, checkpoint: Mapping[Any, Any] | None) -> list[tuple[Asset, Mapping[str, Any]]]:
        if checkpoint is None:
            return []
        if not isinstance(checkpoint, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"checkpoint must map keys to values, not be a {type(checkpoint).__name__}")
        if not any(isinstance(key, Asset) for key in checkpoint):
            return [(self._asset, checkpoint)]
        for asset, values in checkpoint.items():
            if not isinstance(asset, Asset) or not isinstance(values, Mapping):
                raise TypeError(
                    f"checkpoint must map keys to values, or every asset to such a mapping; found {asset!r}: {values!r}"
                )
        return list(checkpoint.items())

    async def acommit(self, commit: Commit) -> tuple[Event, bool]:
        """Record the event of a prepared commit together with its checkpoint.

        :param commit: what `prepare` gave; may be tried again after an error.
        :return: the event, and whether it was recorded before under the same key (then with the id of that one).
        :raises LeaseLostError: somebody else claimed the watcher; nothing was written.
        :raises StoreBusyError: a lock was not free in time; nothing was written.
        """
        result = await self._core.commit(commit)
        recorded, new = result.events[0], commit.events[0]
        event = Event(
            id=recorded.id,
            asset=self.lease.asset.name or "",
            watcher=self.lease.name,
            payload=decode(new.payload),
            key=new.key,
            created_at=result.committed_at,
        )
        return event, recorded.duplicate

    async def areport(self, state: WatcherState, *, error: str | None = None, restarts: int = 0) -> None:
        """Keep what the watcher is doing where an operator can see it; nothing happens once the claim is lost.

        :param state: what it is doing.
        :param error: the traceback of its latest error.
        :param restarts: how many to count.
        """
        backend = self._core.backend
        await self._core.call(lambda: backend.areport_watcher(self.lease, state, error=error, restarts=restarts))


async def claim(core: Core, asset: Asset, name: str, owner: str) -> ClaimedWatcher:
    """Claim a watcher of an asset; whoever held it can commit no more.

    :param core: the store's core.
    :param asset: the asset; registered where it is new.
    :param name: the watcher's name.
    :param owner: who claims, for people.
    """
    check_key(name)
    scope = await core.resolve_anew(asset)
    lease = await core.call(lambda: core.backend.aclaim_watcher(scope, name, owner=owner))
    return ClaimedWatcher(core, asset, lease)
