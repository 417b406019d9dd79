"""A primary that goes, and its synchronous standby that takes its place: nothing that was acknowledged is lost."""

from __future__ import annotations

import asyncio
import time

import pytest
from anyio.to_thread import run_sync
from sqlalchemy.engine import make_url

from asyncstore import OutcomeUnknownError
from tests.postgres.fixtures import MakeServer
from tests.postgres.proxy import Proxy
from tests.postgres.server import Server
from tests.postgres.store_load import Load
from tests.postgres.store_support import GRACE, ORDERS, audited, look, opened

pytestmark = pytest.mark.anyio


class Pair:
    """A primary and its standby, with a database on both."""

    def __init__(self, primary: Server) -> None:
        self.primary = primary
        self.database = primary.create_database(template=audited(primary))
        self.standby = primary.make_standby()

    @property
    def url(self) -> str:
        """Name both, the primary first."""
        first = make_url(self.primary.url(self.database))
        return (
            f"postgresql+asyncpg://postgres@{first.host}:{first.port},{first.host}:{self.standby.port}/{self.database}"
        )


@pytest.fixture
def pair(make_server: MakeServer) -> Pair:
    return Pair(make_server(fsync=True))


@pytest.mark.parametrize("end", ["kill", "immediate", "freeze"])
async def test_what_was_acknowledged_is_on_the_standby_that_is_promoted(end: str, pair: Pair) -> None:
    async with opened(pair.url, operation_timeout=20.0) as one, opened(pair.url, operation_timeout=20.0) as two:
        loads = [Load(one, "one", writers=6), Load(two, "two", writers=6)]
        for load in loads:
            await load.start()
        if end == "kill":
            await run_sync(pair.primary.kill)
        elif end == "immediate":
            await run_sync(pair.primary.stop, "immediate")
        else:
            await run_sync(pair.primary.freeze)
        await run_sync(pair.standby.promote)
        began = time.monotonic()
        for load in loads:
            await load.progress()
        assert time.monotonic() - began < 20
        for load in loads:
            await load.stop()
        found = await look(pair.standby.url(pair.database))
        for load in loads:
            load.judge(found)
            assert load.refused == [], "what could not be done is tried until there is a primary"


async def test_the_primary_is_found_among_the_hosts(pair: Pair) -> None:
    hosts = f"127.0.0.1:{pair.standby.port},127.0.0.1:{pair.primary.port}"
    for options in ("", "?target_session_attrs=primary", "?target_session_attrs=read-write"):
        async with opened(f"postgresql+asyncpg://postgres@{hosts}/{pair.database}{options}") as store:
            await store.asset_state[ORDERS].aset("there", options or "none")
    async with opened(f"postgresql+asyncpg://postgres@{hosts}/{pair.database}?target_session_attrs=standby") as store:
        assert await store.asset_state[ORDERS].aget("there") == "?target_session_attrs=read-write"


async def test_a_commit_that_the_standby_has_not_is_not_acknowledged(pair: Pair) -> None:
    with Proxy.to(pair.primary.url(pair.database)) as proxy:
        async with opened(proxy.through(pair.primary.url(pair.database)), operation_timeout=1.5) as store:
            state = store.asset_state[ORDERS]
            claimed = await store.aclaim_watcher(ORDERS, "watcher", owner="a test")
            await state.aset_many({"there": 0, "other": 0})
            await state.aset("there", 1)
            await claimed.acommit(await claimed.prepare("before", None, None))
            commit = await claimed.prepare("event", None, None)
            await run_sync(pair.standby.freeze)
            waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            for write in (lambda: state.aset("there", 2), lambda: claimed.acommit(commit)):
                running = asyncio.ensure_future(write())
                await run_sync(lambda: _until_rows(pair.primary, waiting))
                proxy.cut()  # whoever asks now finds it made, on the primary
                with pytest.raises(OutcomeUnknownError):
                    await running
            await run_sync(pair.standby.thaw)
            await state.aset("other", 1)
            assert await state.aget("there") == 2


def _until_rows(server: Server, query: str) -> None:
    deadline = time.monotonic() + 10
    while not server.fetch(query):
        assert time.monotonic() < deadline, query
        time.sleep(0.01)


async def test_a_wait_for_the_standby_that_is_cancelled_is_no_success(pair: Pair) -> None:
    async with opened(pair.url, operation_timeout=10.0) as store:
        state = store.asset_state[ORDERS]
        await state.aset("there", 0)
        await state.aset("there", 1)
        await run_sync(pair.standby.freeze)
        cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        running = asyncio.ensure_future(state.aset("there", 2))
        await run_sync(lambda: _until_rows(pair.primary, cancel))
        with pytest.raises(OutcomeUnknownError, match="this server only"):
            await running
        await run_sync(pair.standby.thaw)
        await state.aset("there", 3)
        assert await state.aget("there") == 3


async def test_a_primary_that_becomes_a_standby_is_left(pair: Pair) -> None:
    # A name that leads to whoever is the primary.
    with Proxy.to(pair.primary.url(pair.database)) as proxy:
        async with opened(proxy.through(pair.primary.url(pair.database)), operation_timeout=10.0) as store:
            state = store.asset_state[ORDERS]
            await state.aset("there", 1)
            await state.aset("there", 2)
            proxy.point(pair.standby.port)
            proxy.cut()
            running = asyncio.ensure_future(state.aset("there", 3))
            await asyncio.sleep(0.2)
            assert not running.done(), "a standby takes no writes"
            await run_sync(pair.primary.kill)
            await run_sync(pair.standby.promote)
            async with asyncio.timeout(10 + GRACE):
                await running
            assert await state.aget("there") == 3
