"""Who runs which watcher: triggerers, their leases, and what people ask of watchers."""

from __future__ import annotations

from .abc import Fleet
from .records import Claim, Declared, Load, Member, Peer, Standing, Survey, TriggererRecord

__all__ = ["Claim", "Declared", "Fleet", "Load", "Member", "Peer", "Standing", "Survey", "TriggererRecord"]
