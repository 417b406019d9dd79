"""State of assets, by subscript; of the only one, without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from ..core import Core
from ..records import Lease
from ..scopes import Asset, AssetScope, Scope
from .asset import AssetStoreAccessor

__all__ = ["AssetStoreAccessors"]


@final
class AssetStoreAccessors(AssetStoreAccessor):
    """Give the state of an asset by subscript: `asset_state[orders]`.

    With exactly one declared asset, every method works on that one directly; with none or several it raises a
    `ValueError` that says to subscript.

    :param core: the store's core.
    :param declared: the assets declared here, with their canonical scopes.
    :param closed: no other asset may be used.
    :param updated_by: who writes, kept beside each value.
    :param lease: the claim that every write stands on.
    """

    def __init__(
        self,
        core: Core,
        declared: Sequence[tuple[Asset, AssetScope]] = (),
        *,
        closed: bool = False,
        updated_by: str | None = None,
        lease: Lease | None = None,
    ) -> None:
        self._declared = {scope: asset for asset, scope in declared}
        self._closed = closed
        only = next(iter(self._declared)) if len(self._declared) == 1 else AssetScope(name="(subscript first)")
        super().__init__(core, only, canonical=len(self._declared) == 1, updated_by=updated_by, lease=lease)

    def __repr__(self) -> str:
        names = ", ".join(asset.name for asset in self._declared.values())
        return f"<AssetStoreAccessors of {names or 'any asset'}>"

    async def _scope(self) -> Scope:
        if len(self._declared) != 1:
            names = ", ".join(repr(asset.name) for asset in self._declared.values()) or "none"
            raise ValueError(
                f"asset_state stands for one asset only where exactly one is declared (here: {names}); "
                "subscript it, as in asset_state[orders]"
            )
        return await super()._scope()

    def __getitem__(self, asset: Asset | AssetScope) -> AssetStoreAccessor:
        """Give the state of an asset.

        :param asset: an `Asset`, or an `AssetScope` of one that is registered.
        :raises TypeError: it is no asset.
        :raises KeyError: only declared assets may be used here, and it is none of them.
        """
        if not isinstance(asset, Asset | AssetScope):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"asset_state is subscripted by an Asset, not by a {type(asset).__name__}: {asset!r}")
        declared = next((scope for scope, each in self._declared.items() if _means(asset, each, scope)), None)
        if declared is None and self._closed:
            names = ", ".join(repr(each.name) for each in self._declared.values()) or "none"
            raise KeyError(f"{asset} is no inlet or outlet of this task; declare it (declared: {names})")
        return AssetStoreAccessor(
            self._core,
            declared or asset,
            canonical=declared is not None,
            updated_by=self._updated_by,
            lease=self._lease,
        )


def _means(asked: Asset | AssetScope, declared: Asset, scope: AssetScope) -> bool:
    if isinstance(asked, AssetScope):
        if asked.asset_id is not None:
            return asked.asset_id == scope.asset_id
        if asked.name is not None:
            return asked.name in {declared.name, scope.name}
        return asked.uri in {declared.uri, scope.uri}
    if asked == declared or asked.explicit_name == scope.name:
        return True
    if asked.explicit_uri is None or asked.explicit_uri not in {declared.explicit_uri, scope.uri}:
        return False
    # One that was known by its URI alone when it was declared may have got a name since.
    return asked.explicit_name is None or (declared.explicit_name is None and scope.name == asked.explicit_uri)
