"""The warning that a value is in the store itself."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

from ..changes import Change, Put
from ..errors import InlineValueWarning
from ..scopes import Scope
from .abc import Keeper

__all__ = ["InlineTeller"]

_PACKAGES = tuple(f"{Path(__file__).parents[2] / name}/" for name in ("asyncstore", "triggers"))
#: Keys that are remembered at most; then the oldest are forgotten, and told of again.
_MOST = 10_000


class InlineTeller:
    """Warn, once per key, that a value is in the store itself although a worker-side backend is configured.

    :param keeper: the worker-side backend.
    """

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._told: dict[tuple[Scope, str], None] = {}

    def knows(self, change: Change) -> None:
        """Take note of a value that is in the store on purpose."""
        if isinstance(change, Put):
            self._remember(change.scope, change.key)

    def _remember(self, scope: Scope, key: str) -> None:
        self._told[scope, key] = None
        while len(self._told) > _MOST:
            del self._told[next(iter(self._told))]

    def is_due(self, scope: Scope, key: str, text: str) -> bool:
        """Tell whether a value should have been kept, and nobody was warned of it; from now on somebody was.

        :param text: its JSON text.
        """
        keeper = self._keeper
        if not keeper.keeps(scope, key) or (scope, key) in self._told:
            return False
        if keeper.threshold > 4 * len(text) or keeper.threshold > len(text.encode()):
            return False
        self._remember(scope, key)
        return True

    def tell(self, scope: Scope, key: str) -> None:
        """Warn of a value."""
        frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]  # there is no other way
        while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGES):
            frame = frame.f_back
        warnings.warn_explicit(
            f"key {key!r} of {scope} holds its value in the store itself: it was written without "
            f"{self._keeper.name}, the [workers] state_backend of this process; it reads as it is, and the next set "
            "moves it",
            InlineValueWarning,
            frame.f_code.co_filename,
            frame.f_lineno,
        )
