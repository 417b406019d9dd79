"""Which keys have a write on its way, so that a read that was asked for later waits for it."""

from __future__ import annotations

from collections.abc import Hashable

from ...changes import Clear, Commit
from ...scopes import AssetScope, Scope, TaskScope

__all__ = ["Pending"]

_ANY_ASSET = "any asset"
_SOME_ASSET = "an asset by name"


def _owner(scope: Scope) -> Hashable:
    if isinstance(scope, TaskScope):
        return scope
    return _SOME_ASSET if scope.asset_id is None else scope.asset_id


def _owners(scope: Scope) -> tuple[Hashable, ...]:
    # Under what a read of the scope finds writes. One may know an asset by its id, another by its name.
    if isinstance(scope, TaskScope):
        return (scope,)
    return (_ANY_ASSET,) if scope.asset_id is None else (scope.asset_id, _SOME_ASSET)


class Pending:
    """Index the keys that commits touch; in doubt a key is among them."""

    __slots__ = ("_cleared", "_everything", "_keys", "_owners")

    def __init__(self) -> None:
        self._keys: set[tuple[Hashable, str]] = set()
        self._owners: set[Hashable] = set()
        self._cleared: set[Hashable] = set()
        self._everything = False

    def add_everything(self) -> None:
        """Note an operation of which nobody knows what it touches."""
        self._everything = True

    def add(self, commit: Commit) -> None:
        """Note a commit."""
        for change in commit.changes:
            scope = change.scope
            owners = [_owner(scope)]
            if isinstance(scope, AssetScope):
                owners.append(_ANY_ASSET)
            self._owners.update(owners)
            if not isinstance(change, Clear):
                self._keys.update((owner, change.key) for owner in owners)
            elif change.all_map_indices and isinstance(scope, TaskScope):
                self._cleared.add((scope.dag_id, scope.run_id, scope.task_id))
            else:
                self._cleared.update(owners)

    def touches(self, scope: Scope, key: str | None) -> bool:
        """Tell whether a key, or for None anything of the scope, may be written."""
        if self._everything or (self._cleared and self._clears(scope)):
            return True
        owners = _owners(scope)
        if key is None:
            return any(owner in self._owners for owner in owners)
        return any((owner, key) in self._keys for owner in owners)

    def _clears(self, scope: Scope) -> bool:
        if isinstance(scope, TaskScope) and (scope.dag_id, scope.run_id, scope.task_id) in self._cleared:
            return True
        return any(owner in self._cleared for owner in _owners(scope))
