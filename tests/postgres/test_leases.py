"""A lease that runs out while a commit under it is being made: the commit or the takeover, never half of each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta
from time import monotonic
from typing import Any, cast
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from asyncstore import (
    Asset,
    Commit,
    Lease,
    LeaseLostError,
    ManualClock,
    MetastoreBackend,
    NewEvent,
    WatcherOrder,
    WatcherState,
)
from asyncstore.backends.metastore.postgresql import link
from asyncstore.backends.metastore.postgresql.pool import Pool
from asyncstore.fleet import Member
from tests.postgres.held import waiting
from tests.postgres.support import connected

pytestmark = pytest.mark.anyio

LEASE = timedelta(seconds=10)
ORDERS = Asset("orders")


class Two:
    """Two processes, as it were, on one clock; the first has the watcher."""

    def __init__(self, url: str, clock: ManualClock) -> None:
        self.clock = clock
        self.first, self.second = MetastoreBackend(url, clock=clock), MetastoreBackend(url, clock=clock)
        self.ids: list[int] = []
        self.members: list[Member] = []

    async def begin(self) -> Lease:
        scope = await self.first.aregister_asset(ORDERS)
        self.ids = [each.watcher_id for each in await self.first.fleet.adeclare([(scope, "w")])]
        for name, backend in (("first", self.first), ("second", self.second)):
            self.members.append(await backend.fleet.ajoin(name, token=name, capacity=1, watchers=self.ids, lease=LEASE))
        (claim,) = await self.first.fleet.aclaim(self.members[0], "first", self.ids) or []
        return Lease(claim.watcher_id, claim.fence, scope, "w")


@pytest.fixture
async def two(database_url: str) -> AsyncGenerator[Two]:
    pair = Two(database_url, ManualClock())
    async with pair.first, pair.second:
        yield pair


async def test_a_takeover_waits_for_a_commit_that_was_checked_before(two: Two, database_url: str) -> None:
    lease = await two.begin()
    engine = create_async_engine(database_url)
    try:
        async with engine.begin() as session:
            await two.first.acommit(Commit((), (NewEvent("1"),), lease), session=session)
            two.clock.advance(LEASE - timedelta(seconds=1))
            assert await two.second.fleet.abeat(two.members[1], LEASE, 10.0)
            two.clock.advance(timedelta(seconds=1))
            burying = asyncio.ensure_future(two.second.fleet.abury())
            async with connected(database_url) as bare:
                await waiting(bare)
            assert not burying.done()
        assert await burying == 1
    finally:
        await engine.dispose()
    (claim,) = await two.second.fleet.aclaim(two.members[1], "second", two.ids) or []
    assert claim.fence > lease.fence
    with pytest.raises(LeaseLostError, match="claimed by another process"):
        await two.first.acommit(Commit((), (NewEvent("2"),), lease))
    assert [event.payload for event in await two.second.alist_events()] == [1]


async def test_a_commit_that_waited_for_a_takeover_is_refused(two: Two, database_url: str) -> None:
    lease = await two.begin()
    async with connected(database_url) as bare:
        async with bare.transaction():
            # Another one has claimed the watcher, and has not committed yet.
            await bare.execute("UPDATE asyncstore_watcher SET fence = fence + 1, triggerer_id = NULL")
            committing = asyncio.ensure_future(two.first.acommit(Commit((), (NewEvent("1"),), lease)))
            async with connected(database_url) as other:
                await waiting(other)
        with pytest.raises(LeaseLostError, match="claimed by another process"):
            await committing
    assert await two.first.alist_events() == []


async def test_orders_and_takeovers_at_once_end_in_one_state(two: Two) -> None:
    await two.begin()
    scope = await two.first.aregister_asset(ORDERS)
    for _ in range(20):
        two.clock.advance(LEASE)
        await asyncio.gather(
            two.first.fleet.abury(),
            two.second.fleet.abury(),
            two.first.fleet.aorder(scope, "w", WatcherOrder.RESTART),
            two.second.fleet.aorder(scope, "w", WatcherOrder.PAUSE),
        )
        (record,) = await two.first.alist_watchers()
        assert record.state in {WatcherState.PAUSED, WatcherState.WAITING}
        assert (record.asked, record.lease_age) == (None, None)
        await two.first.fleet.aorder(scope, "w", WatcherOrder.RESTART)
        member = await two.first.fleet.ajoin("again", token=uuid4().hex, capacity=1, watchers=two.ids, lease=LEASE)
        assert await two.first.fleet.aclaim(member, "again", two.ids)


async def test_a_transaction_whose_client_has_gone_silent_holds_nobody_up_for_long(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "_IDLE", 200)
    await two.begin()
    pool = cast("Pool", cast("Any", two.first)._database._here.get().pool)
    silent = await pool.open(monotonic() + 10)
    try:
        # As a triggerer that is frozen while it claims.
        await silent.begin()
        await silent.step("UPDATE asyncstore_triggerer SET draining = draining WHERE id = $1", two.members[0].id)
        two.clock.advance(LEASE - timedelta(seconds=1))
        assert await two.second.fleet.abeat(two.members[1], LEASE, 10.0)
        two.clock.advance(timedelta(seconds=1))
        assert await two.second.fleet.abury() == 1
        assert await two.second.fleet.aclaim(two.members[1], "second", two.ids)
    finally:
        pool.drop(silent)
