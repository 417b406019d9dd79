"""How a store ends."""

from __future__ import annotations

import asyncio

import anyio

from .abc import BaseStoreBackend
from .blocking import inline
from .core import Core

__all__ = ["end_readers", "let_go"]

#: Seconds that a backend gets to close where its store was cancelled.
_CLOSE_SECONDS = 10.0


async def end_readers(core: Core) -> None:
    """Have the readers of events give back what they have in hand.

    :param core: the store's core.
    """
    if not inline():  # whoever reads does so on an event loop
        for reader in list(core.readers):
            await reader.aclose()


async def let_go(core: Core, backend: BaseStoreBackend | None) -> None:
    """Close what a store opened, even where the caller is cancelled.

    :param core: the store's core.
    :param backend: the backend; None where it is not the store's.
    """

    async def close() -> None:
        try:
            await core.aclose()
        finally:
            if backend is not None:
                await core.call(backend.aclose)

    try:
        await close()
    except asyncio.CancelledError:
        # A cancelled scope of anyio cancels every await in it. To close is harmless when repeated.
        with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
            await close()
        raise
