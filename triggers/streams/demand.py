"""How subscribers ask a source for more."""

from __future__ import annotations

import anyio

__all__ = ["Demand"]


class _Round:
    """The time between two pieces of news."""

    def __init__(self) -> None:
        self.asking = 0
        self.news = anyio.Event()


class Demand:
    """Let whoever has read everything ask for more, and wake them all when there is."""

    def __init__(self) -> None:
        self._round = _Round()
        self._asked = anyio.Event()

    async def wait_asked(self) -> None:
        """Wait until somebody has asked since the latest news."""
        while not self._round.asking:
            self._asked = anyio.Event()
            await self._asked.wait()

    async def wait_news(self) -> None:
        """Ask, and wait for news; a cancelled one does not ask any more."""
        mine = self._round
        mine.asking += 1
        self._asked.set()
        try:
            await mine.news.wait()
        finally:
            mine.asking -= 1

    def tell(self) -> None:
        """Wake all who wait for news; who wants more asks again."""
        self._round.news.set()
        self._round = _Round()
