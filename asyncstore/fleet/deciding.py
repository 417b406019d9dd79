"""What becomes of what a person asks of a watcher: one rule for every backend."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import StoreError, WatcherNotFoundError
from ..records import WatcherOrder, WatcherState
from ..scopes import AssetScope

__all__ = ["Decision", "decide"]


@dataclass(frozen=True, slots=True)
class Decision:
    """Hold what is to be written.

    :ivar state: the state to leave the watcher in, for nobody has it; None where nothing is done at once.
    :ivar asked: what whoever has it is to be asked.
    :ivar changes: there is something to ask, or to take back.
    """

    state: WatcherState | None = None
    asked: WatcherOrder | None = None
    changes: bool = False


_NOTHING = Decision()
_AT_REST = {WatcherState.DONE, WatcherState.KILLED}


def decide(
    asset: AssetScope,
    name: str,
    order: WatcherOrder,
    *,
    state: WatcherState | None,
    asked: WatcherOrder | None,
    held: bool,
) -> Decision:
    """Decide what an order does.

    :param asset: the watched asset.
    :param name: the watcher's name.
    :param order: what is asked.
    :param state: what the watcher is doing; None where there is no such watcher.
    :param asked: what was asked before, and is not done yet.
    :param held: a triggerer has it whose lease holds.
    :raises WatcherNotFoundError: there is no such watcher.
    :raises StoreError: it cannot be done to a watcher in this state.
    """
    if state is None:
        raise WatcherNotFoundError(
            f"{asset} has no watcher {name!r}; `asyncstore triggers list` shows those that there are"
        )
    watcher = f"watcher {name!r} of {asset}"
    if held:
        return _of_held(watcher, order, asked)
    if order is WatcherOrder.RESTART:
        return Decision(WatcherState.WAITING)
    if order is WatcherOrder.KILL:
        return Decision(WatcherState.KILLED)
    if state in _AT_REST:
        raise StoreError(f"{watcher} is {state}, and cannot be {order}d; a restart runs it again")
    if order is WatcherOrder.PAUSE:
        return _NOTHING if state is WatcherState.PAUSED else Decision(WatcherState.PAUSED)
    return Decision(WatcherState.WAITING) if state is WatcherState.PAUSED else _NOTHING


def _of_held(watcher: str, order: WatcherOrder, asked: WatcherOrder | None) -> Decision:
    if asked is WatcherOrder.KILL:
        if order is WatcherOrder.KILL:
            return _NOTHING
        raise StoreError(f"{watcher} is just being killed; try again when that is done")
    if order is WatcherOrder.RESUME:
        return Decision(changes=True) if asked is WatcherOrder.PAUSE else _NOTHING
    return Decision(asked=order, changes=True)
