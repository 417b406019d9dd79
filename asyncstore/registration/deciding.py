"""How a registration is decided, and what every backend refuses in the same words."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import AssetConflictError, AssetInactiveError, AssetNotFoundError, LeaseLostError
from ..records import Lease
from ..scopes import Asset, AssetScope

__all__ = ["Registered", "inactive", "lease_expired", "lease_lost", "never_expires", "not_found", "registration"]


def not_found(scope: AssetScope) -> AssetNotFoundError:
    """Say that an asset is unknown."""
    return AssetNotFoundError(
        f"no {scope} is registered; check the spelling, or register it with store.aregister(Asset(...))"
    )


def inactive(scope: AssetScope) -> AssetInactiveError:
    """Say that an asset is deactivated."""
    return AssetInactiveError(f"{scope} is deactivated: its state cannot be read or written until it is activated")


def lease_lost(lease: Lease, fence: int) -> LeaseLostError:
    """Say that a watcher was claimed since."""
    return LeaseLostError(
        f"watcher {lease.name!r} of {lease.asset} was claimed by another process (fence {fence}, held {lease.fence}); "
        "nothing was written"
    )


def lease_expired(lease: Lease) -> LeaseLostError:
    """Say that the lease of whoever holds a watcher has run out."""
    return LeaseLostError(
        f"the lease under which watcher {lease.name!r} of {lease.asset} was held has run out; nothing was written"
    )


def never_expires() -> ValueError:
    """Say that asset state has no expiry."""
    return ValueError("asset state does not expire: retention is for task state only")


@dataclass(frozen=True, slots=True)
class Registered:
    """Hold what decides over a registration.

    :ivar id: the asset's id; 0 for one that is not registered yet.
    :ivar name: its name; the URI while only that is known.
    :ivar uri: its URI; None while only the name is known.
    :ivar named: the name was given.
    """

    id: int
    name: str
    uri: str | None
    named: bool

    @property
    def scope(self) -> AssetScope:
        """Return the canonical scope."""
        return AssetScope(self.id, self.name, self.uri)


def registration(asset: Asset, by_name: Registered | None, by_uri: Registered | None) -> Registered:
    """Decide what the registration of an asset is to be.

    :param asset: what is asked for.
    :param by_name: what is registered under its name.
    :param by_uri: what is registered under its explicit URI.
    :return: the registration; with id 0 where it is new, else to be updated where it differs.
    :raises AssetConflictError: the name has another URI, or the URI is under another name.
    """
    name, uri = asset.explicit_name, asset.explicit_uri
    if name is None and by_uri is not None:
        return by_uri
    if by_name and by_uri and by_name.id != by_uri.id:
        raise AssetConflictError(
            f"{asset!r}: the name and the URI belong to two assets, {by_name.name!r} with the URI {by_name.uri!r} and "
            f"{by_uri.name!r} with the URI {by_uri.uri!r}; use what is registered"
        )
    if by_name and uri is not None and by_name.uri not in {None, uri}:
        raise AssetConflictError(
            f"{asset!r}: the name {asset.name!r} is registered with the URI {by_name.uri!r}; "
            "use that URI or another name"
        )
    if by_uri and name is not None and by_uri.named and by_uri.name != name:
        raise AssetConflictError(
            f"{asset!r}: the URI {uri!r} is registered under the name {by_uri.name!r}; use that name or another URI"
        )
    found = by_name or by_uri
    if found is None:
        return Registered(0, asset.name, uri, name is not None)
    return Registered(
        found.id,
        found.name if name is None else name,
        found.uri if uri is None else uri,
        found.named or name is not None,
    )
