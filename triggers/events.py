"""What a trigger yields."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from asyncstore import Checkpoint

__all__ = ["TriggerEvent"]


@dataclass(frozen=True, slots=True)
class TriggerEvent:
    """Be an event, to be recorded together with its checkpoint in one transaction.

    The generator is resumed only when that transaction is committed. What is not valid raises at the `yield`.

    :param payload: any JSON value; None for an event that says nothing more.
    :param key: makes the event idempotent: the second one of a watcher with the same key is recorded as the
        first, its checkpoint still committed.
    :param checkpoint: keys and values of the watched asset's state (`{"watermark": 42}`), or such mappings by asset.
    """

    payload: Any = None
    key: str | None = field(default=None, kw_only=True)
    checkpoint: Checkpoint | None = field(default=None, kw_only=True)
