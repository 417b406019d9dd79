"""What the in-memory backend holds of consumers."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["HeldConsumer", "HeldDelivery"]


@dataclass(slots=True)
class HeldDelivery:
    """Hold an event that was handed out and is not done: in hand, waiting or set aside. Times in microseconds."""

    event_id: int
    member_id: int | None = None
    fence: int = 0
    failures: int = 0
    alone: bool = False
    not_before: int | None = None
    error: str = ""
    failed_at: int | None = None

    def wait(self, until: int = 0) -> None:
        """Take it out of the hand that has it, for another attempt."""
        self.member_id, self.fence, self.not_before, self.failed_at = None, 0, until, None


@dataclass(slots=True)
class HeldConsumer:
    """Hold a consumer, until when each of its readers has its lease, and what they have not done."""

    id: int
    asset_id: int
    name: str
    start: str
    taken: int
    created_at: int
    fence: int = 0
    members: dict[int, int] = field(default_factory=dict[int, int])
    deliveries: dict[int, HeldDelivery] = field(default_factory=dict[int, HeldDelivery])

    def needs(self, event_id: int) -> bool:
        """Tell whether an event is not done here."""
        return event_id > self.taken or event_id in self.deliveries
