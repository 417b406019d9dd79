"""Exactly once on SQLite."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncstore import MemoryBackend, StoreBusyError, UnsupportedOperationError, connect

from .support import ORDERS, SETTINGS, record
from .transactions import TransactionTests


class TestSqlite(TransactionTests):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite+aiosqlite:///{tmp_path}/state.db"


@pytest.mark.anyio
async def test_a_write_beside_the_transaction_ends_in_an_error_and_no_deadlock(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/state.db"
    database = SETTINGS.database.model_copy(update={"url": url, "lock_timeout": 0.05})
    async with connect(settings=SETTINGS.model_copy(update={"database": database})) as store:
        await record(store, 1)
        async for event in store.events(ORDERS, consumer="loader"):
            async with event.transaction() as session:
                await store.asset_state[ORDERS].aset("inside", 1, session=session)
                with pytest.raises(StoreBusyError):
                    await store.asset_state[ORDERS].aset("beside", 1)
            break
        assert await store.asset_state[ORDERS].akeys() == ["inside"]


@pytest.mark.anyio
@pytest.mark.parametrize("memory", ["MemoryBackend", "sqlite"])
async def test_where_no_other_connection_can_see_the_data_it_is_refused(memory: str) -> None:
    backend = MemoryBackend() if memory == "MemoryBackend" else None
    url = None if backend else "sqlite+aiosqlite:///:memory:"
    async with connect(url, backend=backend, settings=SETTINGS) as store:
        await record(store, 1)
        async for event in store.events(ORDERS, consumer="loader"):
            with pytest.raises(UnsupportedOperationError, match="transaction"):
                async with event.transaction():
                    pass
            await event.adone()  # nothing was begun
            break
        (found,) = await store.alist_consumers()
        assert (found.in_hand, found.waiting, found.failed) == (0, 0, 0)
