"""What a proxy does with the messages that pass: where it stalls, and where it cuts."""

from __future__ import annotations

import asyncio
import threading
from typing import Literal

from tests.postgres.messages import Message
from tests.postgres.processes import PATIENCE

Side = Literal["client", "server"]
How = Literal["rst", "fin"]
Act = Literal["before", "after", "answered"]

CLIENT: Side = "client"
SERVER: Side = "server"
SIDES: tuple[Side, Side] = (CLIENT, SERVER)


class Rule:
    """Where a connection is to be cut, once: at the n-th message of a kind, or after so many bytes."""

    def __init__(
        self,
        act: Act,
        side: Side,
        how: How,
        *,
        kind: str = "",
        containing: bytes = b"",
        nth: int = 1,
        size: int | None = None,
    ) -> None:
        self.act: Act = act
        self.side: Side = side
        self.how: How = how
        self.size = size  # bytes still to be forwarded
        self._kind = kind
        self._containing = containing
        self._left = nth
        self._fired = threading.Event()

    def matches(self, side: Side, message: Message) -> bool:
        """Count a message that the rule is about; true for the last to be counted."""
        if self.size is not None or side != self.side:
            return False
        if self._kind not in {"", message.kind} or self._containing not in message.data:
            return False
        self._left -= 1
        return self._left == 0

    def fire(self) -> None:
        self._fired.set()

    @property
    def fired(self) -> bool:
        """Whether the connection was cut."""
        return self._fired.is_set()

    def wait(self, patience: float = PATIENCE) -> None:
        """Wait for the cut; blocks.

        :raises TimeoutError: Nothing came to the place.
        """
        if not self._fired.wait(patience):
            raise TimeoutError(f"waited {patience} s in vain to cut {self.act} {self._kind or 'data'} of {self.side}")


class Traffic:
    """The rules of all connections of a proxy; belongs to its event loop."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []
        #: How many messages are held back, by who sent them.
        self.held: dict[Side, int] = dict.fromkeys(SIDES, 0)
        self._gates: dict[Side, asyncio.Event] = {side: asyncio.Event() for side in SIDES}
        for side in SIDES:
            self.open(side)

    def open(self, side: Side) -> None:
        self._gates[side].set()

    def shut(self, side: Side) -> None:
        self._gates[side].clear()

    async def pass_gate(self, side: Side) -> None:
        """Wait while messages from that side are stalled."""
        if self._gates[side].is_set():
            return
        self.held[side] += 1
        try:
            await self._gates[side].wait()
        finally:
            self.held[side] -= 1

    def match(self, side: Side, message: Message) -> Rule | None:
        """Give the rule that says to cut at this message; it does not say so again."""
        found = [rule for rule in self.rules if rule.matches(side, message)]
        for rule in found:
            self.rules.remove(rule)
        return found[0] if found else None

    def limit(self, side: Side) -> Rule | None:
        """Give the rule that counts bytes from that side."""
        return next((rule for rule in self.rules if rule.side == side and rule.size is not None), None)
