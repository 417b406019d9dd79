"""Every statement of the metastore, by name. `dialect` turns them into SQL text for a driver.

Bound parameters carry the names of the columns they are compared with or written to, `now` for the clock. Whoever needs
a statement names its module: `statements.state.read_value`.
"""

from __future__ import annotations

from . import (
    assets,
    browsing,
    consumers,
    events,
    examining,
    fleet,
    garbage,
    leftovers,
    pruning,
    state,
    transactions,
    watchers,
)

__all__ = [
    "assets",
    "browsing",
    "consumers",
    "events",
    "examining",
    "fleet",
    "garbage",
    "leftovers",
    "pruning",
    "state",
    "transactions",
    "watchers",
]
