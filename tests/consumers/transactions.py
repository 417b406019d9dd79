"""What `event.transaction()` promises; the same tests for SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine

from asyncstore import LeaseLostError, OutcomeUnknownError, Store, StoreError, connect

from .support import ORDERS, SETTINGS, cancelled_at, options, record

INSERT = text("INSERT INTO handled (event_id) VALUES (:event_id)")


def row(event: Any) -> dict[str, int]:
    return {"event_id": event.id}


class TransactionTests:
    """Subclasses give `url`, of a database that is migrated or new."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    async def store(self, url: str) -> AsyncGenerator[Store]:
        async with connect(url, settings=SETTINGS) as store:
            engine = create_async_engine(url)
            async with engine.begin() as connection:
                await connection.execute(text("CREATE TABLE handled (event_id BIGINT NOT NULL UNIQUE)"))
            await engine.dispose()
            yield store

    async def handled(self, url: str) -> list[int]:
        engine = create_async_engine(url)
        async with engine.connect() as connection:
            rows = (await connection.execute(text("SELECT event_id FROM handled ORDER BY event_id"))).scalars().all()
        await engine.dispose()
        return list(rows)

    def loop(self, store: Store, **changes: Any) -> Any:
        return store.events(ORDERS, consumer="loader", settings=options(**changes)).__aiter__()

    async def test_writes_and_the_end_of_the_event_are_one_commit(self, store: Store, url: str) -> None:
        first, second = await record(store, 2)
        state = store.asset_state[ORDERS]
        async with aclosing(self.loop(store)) as events:
            event = await anext(events)
            async with event.transaction() as session:
                await session.execute(INSERT, row(event))
                await state.aset("last", event.id, session=session)
                async with session.begin_nested():
                    await state.aset("also", 1, session=session)
                assert await self.handled(url) == []
                assert (await store.alist_consumers())[0].in_hand == 1
            assert await self.handled(url) == [first.id]
            assert await state.aget_many(["last", "also"]) == {"last": first.id, "also": 1}
            assert (await store.alist_consumers())[0].in_hand == 0
            with pytest.raises(StoreError, match="settled already"):
                async with event.transaction():
                    pass
            assert (await anext(events)).id == second.id

    async def test_an_error_undoes_everything_and_the_event_comes_again(self, store: Store, url: str) -> None:
        await record(store, 1)
        async with aclosing(self.loop(store)) as events:
            for attempt in (1, 2):
                event = await anext(events)
                assert event.attempt == attempt
                with pytest.raises(ZeroDivisionError):  # noqa: PT012
                    async with event.transaction() as session:
                        await session.execute(INSERT, row(event))
                        raise ZeroDivisionError
            event = await anext(events)  # the error was swallowed, and the event is not done for that
            assert event.attempt == 3
            async with event.transaction() as session:
                await session.execute(INSERT, row(event))
        assert await self.handled(url) == [event.id]

    async def test_a_delivery_that_was_lost_commits_nothing(self, store: Store, url: str) -> None:
        (first,) = await record(store, 1)
        async with aclosing(self.loop(store)) as events:
            event = await anext(events)
            with pytest.raises(LeaseLostError, match=f"event {first.id}"):  # noqa: PT012
                async with event.transaction() as session:
                    await store.events(ORDERS, consumer="loader").areplay(0)
                    await session.execute(INSERT, row(event))
        assert await self.handled(url) == []

    async def test_what_the_database_refuses_is_the_handlers_error(self, store: Store, url: str) -> None:
        await record(store, 2)
        async with aclosing(self.loop(store, retry_delay=60, retry_delay_max=60)) as events:
            event = await anext(events)
            async with event.transaction() as session:
                await session.execute(INSERT, row(event))
            again = await anext(events)
            with pytest.raises(SQLAlchemyError, match=r"(?i)unique"):
                async with again.transaction() as session:
                    await session.execute(INSERT, row(event))
            await again.adone()  # as the loop would: it failed
        assert await self.handled(url) == [event.id]
        assert (await store.alist_consumers())[0].waiting == 1

    async def test_it_is_committed_by_its_block_only(self, store: Store, url: str) -> None:
        await record(store, 1)
        async with aclosing(self.loop(store)) as events:
            event = await anext(events)
            with pytest.raises(StoreError, match=r"leave session\.commit"):  # noqa: PT012
                async with event.transaction() as session:
                    await session.execute(INSERT, row(event))
                    await session.commit()
            assert await self.handled(url) == []
            for nested in (False, True):
                event = await anext(events)
                with pytest.raises(StoreError, match=r"leave session\.commit"):  # noqa: PT012
                    async with event.transaction() as session:
                        await session.execute(INSERT, row(event))
                        if nested:
                            await session.begin_nested()
                        await (await session.connection()).commit()
                assert await self.handled(url) == []
            event = await anext(events)
            async with event.transaction() as session:
                with pytest.raises(StoreError, match="has one already"):
                    async with event.transaction():
                        pass
                with pytest.raises(StoreError, match="must end before"):
                    await event.adone()
                await session.execute(INSERT, row(event))
        assert await self.handled(url) == [event.id]

    async def test_cancelled_at_every_await_each_event_is_handled_once(self, store: Store, url: str) -> None:
        recorded = await record(store, 150)

        async def handle() -> None:
            async with store.events(ORDERS, consumer="loader", settings=options(prefetch=2)) as events:
                async for event in events:
                    async with event.transaction() as session:
                        await session.execute(INSERT, row(event))
                        await store.asset_state[ORDERS].aset(f"event {event.id}", 1, session=session)
                    return

        number = 0
        while True:
            number += 1
            async with asyncio.timeout(20):
                if not await cancelled_at(number, handle()):
                    break
            found = await store.alist_consumers()
            assert not found or found[0].in_hand == 0, number
        assert number > 10
        done = await self.handled(url)
        assert sorted(await store.asset_state[ORDERS].akeys()) == sorted(f"event {each}" for each in done)
        async with aclosing(self.loop(store)) as events, asyncio.timeout(20):
            left = [await anext(events) for _ in range(150 - len(done))]
        assert sorted([*(each.id for each in left), *done]) == [each.id for each in recorded]

    async def test_a_commit_of_which_nobody_knows_is_not_taken_for_done(
        self, store: Store, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await record(store, 1)
        async with aclosing(self.loop(store)) as events:
            event = await anext(events)

            async def lost() -> None:
                raise ConnectionResetError("the server went away")

            with pytest.raises(OutcomeUnknownError, match="delivered again unless it did"):  # noqa: PT012
                async with event.transaction() as session:
                    await session.execute(INSERT, row(event))
                    monkeypatch.setattr(session, "commit", lost)
            again = await anext(events)
            assert (again.id, again.attempt) == (event.id, 2)
        assert await self.handled(url) == []
