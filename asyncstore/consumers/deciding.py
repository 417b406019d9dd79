"""What every backend says in the same words."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from ..errors import ConsumerNotFoundError, LeaseLostError
from ..scopes import AssetScope
from .records import Delivery, Member, Start, Taking

__all__ = ["CRASHED", "consumer_not_found", "delivery_lost", "member_lost", "start_text", "tell_exhausted"]

logger = logging.getLogger("asyncstore")

#: Why an event failed whose reader was not heard of any more.
CRASHED = "the process that had the event ended or stalled: its delivery lease ran out"


def consumer_not_found(asset: AssetScope, name: str) -> ConsumerNotFoundError:
    """Say that a consumer is unknown."""
    return ConsumerNotFoundError(
        f"{asset} has no consumer {name!r}; check the spelling, a consumer begins when it reads for the first time"
    )


def delivery_lost(delivery: Delivery) -> LeaseLostError:
    """Say that an event is in other hands."""
    return LeaseLostError(
        f"event {delivery.event.id} of asset {delivery.event.asset!r} is not in this reader's hand any more: its lease "
        "ran out, or the consumer was replayed; nothing was written"
    )


def member_lost(member: Member) -> LeaseLostError:
    """Say that a reader was given up."""
    return LeaseLostError(
        f"a reader of consumer {member.name!r} of {member.asset} was given up, since its lease ran out"
    )


def start_text(start: Start) -> str:
    """Spell where a consumer begins, the same for the same place."""
    return start.astimezone(UTC).isoformat() if isinstance(start, datetime) else str(start)


def tell_exhausted(member: Member, taking: Taking, events: Sequence[int]) -> None:
    """Log which events are delivered no more, whose last failure no reader lived to tell of."""
    if events:
        ids, fate = ", ".join(map(str, events)), "skipped" if taking.skip else "set aside"
        logger.warning("consumer %r of %s: %s: event %s is %s", member.name, member.asset, CRASHED, ids, fate)
