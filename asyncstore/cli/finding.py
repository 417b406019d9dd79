"""Finding what a command names."""

from __future__ import annotations

from ..abc import Capability
from ..errors import AssetNotFoundError
from ..records import AssetRecord
from ..scopes import AssetScope
from ..store import Store
from .commands import near
from .failures import Misuse

__all__ = ["find_asset", "looked_at"]

#: How many names are looked at for one that was probably meant.
_LOOKED_AT = 5000


async def find_asset(store: Store, asset: str) -> AssetRecord:
    """Find a registered asset; registers nothing.

    :param store: an open store.
    :param asset: its name or URI; the name comes first.
    :raises Misuse: nothing is registered there; names what was probably meant.
    """
    backend = store.backend
    # A bare scope: an `Asset` would be registered by the look.
    for scope in (AssetScope(name=asset), AssetScope(uri=asset)):
        try:
            return await store.core.call(lambda scope=scope: backend.aget_asset(scope))  # type: ignore[misc]
        except AssetNotFoundError:
            continue
    guess = near(asset, await looked_at(store))
    raise Misuse(f"no asset is registered under the name or URI {asset!r}{guess and '.' + guess}")


async def looked_at(store: Store) -> list[str]:
    """Give names and URIs of assets, not too many; none where the backend cannot list them."""
    if not store.core.can(Capability.BROWSING):
        return []
    records = await store.browser.alist_assets(limit=_LOOKED_AT)
    return [text for each in records for text in (each.name, each.uri)]
