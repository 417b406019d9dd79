"""Finding what a command names."""

from __future__ import annotations

from ..errors import AssetNotFoundError
from ..scopes import AssetScope
from ..store import Store
from .failures import Misuse

__all__ = ["find_asset"]


async def find_asset(store: Store, asset: str) -> AssetScope:
    """Find a registered asset; registers nothing.

    :param store: an open store.
    :param asset: its name or URI; the name comes first.
    :raises Misuse: nothing is registered there.
    """
    # A bare scope: an `Asset` would be registered by the look.
    for scope in (AssetScope(name=asset), AssetScope(uri=asset)):
        try:
            await store.events(scope).alist(1)
        except AssetNotFoundError:
            continue
        return scope
    raise Misuse(f"no asset is registered under the name or URI {asset!r}")
