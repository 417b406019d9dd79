"""What ties a trigger to an asset."""

from __future__ import annotations

from dataclasses import dataclass, field

from .abc import BaseTrigger
from .poison import Poison

__all__ = ["AssetWatcher"]


@dataclass(frozen=True, slots=True)
class AssetWatcher:
    """Tie a trigger to an asset: `Asset("orders", watchers=[AssetWatcher("new-orders", NewOrders())])`.

    :param name: with the asset, the watcher's identity: its state, keys and claim stay with it, whatever the
        trigger's arguments become.
    :param trigger: what watches.
    :param poison: what becomes of an item that fails again and again (`BaseEventTrigger.item`); None to try for ever.
    :raises TypeError: an argument is of another type.
    :raises ValueError: the name is empty or too long.
    """

    name: str
    trigger: BaseTrigger
    poison: Poison | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"a watcher's name is a string, not {type(self.name).__name__}")
        if not 1 <= len(self.name.encode(errors="replace")) <= 512:
            raise ValueError("a watcher's name must be 1 to 512 bytes of UTF-8")
        if not isinstance(self.trigger, BaseTrigger):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"watcher {self.name!r}: a trigger is an instance of a BaseTrigger subclass, not {self.trigger!r}"
            )
        if not isinstance(self.poison, Poison | None):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"watcher {self.name!r}: poison is a Poison or None, not {self.poison!r}")
