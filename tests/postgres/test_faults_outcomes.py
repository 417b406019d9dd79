"""What a write says of itself where its answer was lost and something else happened meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from anyio.to_thread import run_sync

from asyncstore import LeaseLostError, OutcomeUnknownError, StoreReadOnlyError, StoreUnavailableError, TaskScope
from asyncstore.backends.metastore.postgresql import recovery, write_lane
from tests.postgres.databases import Databases
from tests.postgres.proxy import Proxy
from tests.postgres.store_operations import Bench, bench, plus_one
from tests.postgres.store_support import (
    GRACE,
    OPERATION_TIMEOUT,
    ORDERS,
    Looked,
    audited,
    eventually,
    look,
    opened,
)
from tests.postgres.support import connected
from tests.postgres.traffic import How

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="session")
def database_template(postgres: Databases) -> str:
    return audited(postgres)


async def warm(made: Bench) -> None:
    """Write once in every way, so that nothing is left to be prepared."""
    for number in (1, 2):
        await made.asset.aset("warm", number)
        await made.task.aset("warm", number)
        await made.claimed.acommit(await made.claimed.prepare("warm", None, {"warm": number}))
        await asyncio.gather(*(made.asset.aset(f"warm{place}", number) for place in range(4)))
        await asyncio.gather(*(made.task.aset(f"warm{place}", number) for place in range(4)))


def hold(outcomes: list[BaseException | None], before: Looked, after: Looked, prefix: str) -> None:
    """Hold what the writers of a batch were told against what is in the database."""
    for number, outcome in enumerate(outcomes):
        kept = after.kept.values.get(("orders", f"{prefix}{number}"))
        assert outcome is None or isinstance(outcome, OutcomeUnknownError), repr(outcome)
        assert kept == number or (outcome is not None and kept is None)
    written = sum(key.startswith(prefix) for _, key in after.kept.values)
    assert after.writes - before.writes == written


@pytest.mark.parametrize("how", ["rst", "fin"])
@pytest.mark.parametrize("act", ["before", "after", "done", "answer"])
async def test_a_batch_that_is_cut_is_made_once_or_nobody_knows(
    act: str, how: How, proxy: Proxy, database_url: str
) -> None:
    async with opened(proxy.through(database_url)) as store:
        made = await bench(store)
        await warm(made)
        before = await look(database_url)
        # The first goes out alone, and the others together behind it.
        if act == "before":
            rule = proxy.cut_before("B", nth=2, how=how)
        elif act == "after":
            rule = proxy.cut_after("S", nth=2, how=how)
        elif act == "done":
            rule = proxy.swallow_answer("S", nth=2, how=how)
        else:
            rule = proxy.cut_before("C", side="server", nth=2, how=how)
        outcomes = await asyncio.gather(
            *(made.asset.aset(f"batch{number}", number) for number in range(64)), return_exceptions=True
        )
        assert rule.fired
        hold(outcomes, before, await look(database_url), "batch")
        assert outcomes.count(None) == 64, "each left its mark beside its value"


async def test_a_batch_of_everything_that_is_cut(proxy: Proxy, database_url: str) -> None:
    async with opened(proxy.through(database_url)) as store:
        made = await bench(store)
        await warm(made)
        for round_ in range(8):
            await made.asset.aset_many({f"gone{round_}-{number}": number for number in range(4)})
            before = await look(database_url)
            rule = proxy.swallow_answer("S", nth=2) if round_ % 2 else proxy.cut_after("S", nth=2)
            key = f"round{round_}-"
            mine = [made.asset.aset(f"{key}{number}", number) for number in range(10)]
            others = [
                made.task.aset("first", round_),
                made.asset.aset("there", round_, if_version=before.versions["orders", "there"]),
                made.asset.aset_many({"count": round_, "mark": round_}),
                *(made.asset.adelete(f"gone{round_}-{number}") for number in range(4)),
                made.claimed.acommit(await made.claimed.prepare(round_, None, None)),
                made.task.aset("first", round_ + 100),
                made.task.aset("first", round_ + 200),
            ]
            outcomes = await asyncio.gather(*mine, *others, return_exceptions=True)
            assert rule.fired
            after = await look(database_url)
            for number, outcome in enumerate(outcomes):
                known = not isinstance(outcome, BaseException)
                assert known or isinstance(outcome, OutcomeUnknownError), repr(outcome)
                if number < 10:
                    assert known or after.kept.values.get(("orders", f"{key}{number}")) in (None, number)
                    assert not known or after.kept.values["orders", f"{key}{number}"] == number
            if not any(isinstance(outcome, BaseException) for outcome in outcomes):
                assert after.kept.values["task", "first"] == round_ + 200
            assert after.kept.events.count((round_, None)) == 1, "an event can tell that it was recorded"


async def test_events_of_one_watcher_in_one_batch_are_recorded_once(proxy: Proxy, database_url: str) -> None:
    async with opened(proxy.through(database_url)) as store:
        made = await bench(store)
        await warm(made)
        rule = proxy.swallow_answer("S", nth=2)
        commits = [await made.claimed.prepare(number, None, {"mark": number}) for number in range(4)]
        outcomes = await asyncio.gather(*(made.claimed.acommit(each) for each in commits), return_exceptions=True)
        assert rule.fired
        after = await look(database_url)
        for number, outcome in enumerate(outcomes):
            recorded = after.kept.events.count((number, None))
            if isinstance(outcome, BaseException):
                assert isinstance(outcome, OutcomeUnknownError)
                assert recorded <= 1
            else:
                assert recorded == 1
        assert after.kept.values["orders", "mark"] == 3


@pytest.mark.parametrize("follows", [False, True], ids=["claim", "claim and event"])
@pytest.mark.parametrize("recorded", [True, False])
async def test_an_event_is_never_said_to_be_lost_with_its_lease(
    recorded: bool, follows: bool, proxy: Proxy, database_url: str
) -> None:
    async with opened(proxy.through(database_url)) as store, opened(database_url) as other:
        made = await bench(store)
        await warm(made)
        before = await look(database_url)
        commit = await made.claimed.prepare("mine", None, {"mark": 7})
        proxy.refuse()
        rule = proxy.swallow_answer("S") if recorded else proxy.cut_before("B")
        running = asyncio.ensure_future(made.claimed.acommit(commit))
        await eventually(lambda: rule.fired, "the cut")
        claimed = await other.aclaim_watcher(ORDERS, "watcher", owner="another")
        if follows:
            await claimed.acommit(await claimed.prepare("theirs", None, None))
        proxy.accept()
        await asyncio.wait([running])
        after = await look(database_url)
        made_it = ("mine", None) in after.kept.events
        assert after.kept.events.count(("mine", None)) <= 1
        if made_it:
            assert not isinstance(running.exception(), LeaseLostError)
            assert running.exception() is None or isinstance(running.exception(), OutcomeUnknownError)
        else:
            assert isinstance(running.exception(), LeaseLostError | OutcomeUnknownError)
            assert after.kept.values["orders", "mark"] == before.kept.values["orders", "mark"]


async def test_a_duplicate_is_told_as_one_also_where_the_answer_was_lost(proxy: Proxy, database_url: str) -> None:
    async with opened(proxy.through(database_url)) as store:
        made = await bench(store)
        await warm(made)
        first, _ = await made.claimed.acommit(await made.claimed.prepare("first", "key", None))
        await made.claimed.acommit(await made.claimed.prepare("between", None, None))
        rule = proxy.swallow_answer("S")
        again, duplicate = await made.claimed.acommit(await made.claimed.prepare("again", "key", None))
        assert rule.fired
        assert (again.id, duplicate) == (first.id, True)


async def test_a_put_is_not_repeated_over_a_newer_value(proxy: Proxy, database_url: str) -> None:
    async with opened(proxy.through(database_url)) as store, opened(database_url) as other:
        made = await bench(store)
        await warm(made)
        proxy.refuse()
        rule = proxy.swallow_answer("S")
        running = asyncio.ensure_future(made.asset.aset("there", "older"))
        await eventually(lambda: rule.fired, "the cut")
        await other.asset_state[ORDERS].aset("there", "newer")
        proxy.accept()
        with pytest.raises(OutcomeUnknownError, match="Read again"):
            await running
        assert await made.asset.aget("there") == "newer"


async def test_a_put_that_was_not_made_is_sent_again(proxy: Proxy, database_url: str) -> None:
    async with opened(proxy.through(database_url)) as store:
        made = await bench(store)
        await warm(made)
        for number in range(3):
            before = await look(database_url)
            rule = proxy.cut_before("B")
            await made.asset.aset("there", f"value {number}")
            assert rule.fired
            after = await look(database_url)
            assert after.kept.values["orders", "there"] == f"value {number}"
            assert after.writes == before.writes + 1


async def test_a_statement_that_goes_on_behind_a_torn_network_is_ended(proxy: Proxy, database_url: str) -> None:
    async with opened(proxy.through(database_url)) as store, connected(database_url) as bare:
        made = await bench(store)
        await warm(made)
        await made.asset.aset("slow", 0)
        await bare.execute(
            "CREATE SEQUENCE dawdled; CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " IF nextval('dawdled') = 1 THEN PERFORM pg_sleep(60); END IF; RETURN NULL; END $$;"
            "CREATE CONSTRAINT TRIGGER dawdle AFTER UPDATE ON asyncstore_asset_state DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW WHEN (NEW.key = 'slow') EXECUTE FUNCTION dawdle()"
        )
        sleeping = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        running = asyncio.ensure_future(made.asset.aset("slow", 1))

        async def dawdles() -> bool:
            return await bare.fetchval(sleeping) is not None

        await eventually(dawdles, "the commit to dawdle")
        process = await bare.fetchval(sleeping)
        proxy.cut(keep_server=True)
        await running
        assert await bare.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", process) == 0
        after = await look(database_url)
        assert after.kept.values["orders", "slow"] == 1


async def test_an_answer_that_was_on_its_way_is_found(proxy: Proxy, database_url: str) -> None:
    async with opened(proxy.through(database_url)) as store:
        made = await bench(store)
        await warm(made)
        before = await look(database_url)
        proxy.stall("server")
        running = asyncio.ensure_future(made.task.aset("there", "late"))
        await run_sync(proxy.wait_held, "server")
        proxy.cut(keep_server=True)
        proxy.resume()
        await running
        after = await look(database_url)
        assert (after.kept.values["task", "there"], after.writes) == ("late", before.writes + 1)


async def test_nothing_hangs_where_nothing_is_answered_any_more(proxy: Proxy, database_url: str) -> None:
    async with opened(proxy.through(database_url)) as store:
        made = await bench(store)
        await warm(made)
        await asyncio.gather(made.asset.aget("there"), made.task.akeys())
        commit = await made.claimed.prepare("event", None, {"mark": 1})
        half = OPERATION_TIMEOUT / 2
        operations: dict[str, tuple[float, Callable[[], Awaitable[Any]]]] = {
            "aget": (0, lambda: made.asset.aget("there")),
            "akeys": (0, lambda: made.task.akeys()),
            "aset": (0, lambda: made.asset.aset("there", 1)),
            "aset of a task": (0, lambda: made.task.aset("there", 1)),
            "acommit": (0, lambda: made.claimed.acommit(commit)),
            "aupdate": (0, lambda: made.asset.aupdate("count", plus_one)),
            "later aget": (half, lambda: made.asset.aget("warm")),
            "later aset": (half, lambda: made.asset.aset("mark", 1)),
            "later aget_many": (half, lambda: store.task_state(TaskScope("d", "r", "t")).aget_many(["there"])),
        }
        took: dict[str, float] = {}

        async def timed(name: str) -> None:
            pause, operation = operations[name]
            await asyncio.sleep(pause)
            began = time.monotonic()
            with pytest.raises((StoreUnavailableError, OutcomeUnknownError)):
                await operation()
            took[name] = time.monotonic() - began

        proxy.stall()
        await asyncio.gather(*(timed(name) for name in operations))
        late = {name: seconds for name, seconds in took.items() if seconds > OPERATION_TIMEOUT + GRACE / 2}
        assert not late, "each is given up in its own time"
        proxy.resume()
        await made.asset.aset("there", "after")
        assert await made.asset.aget("there") == "after"
        assert await made.task.akeys("warm") == ["warm", "warm0", "warm1", "warm2", "warm3"]


async def test_nothing_hangs_where_nobody_says_what_became_of_it(
    proxy: Proxy, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stalled(*args: Any) -> Any:
        proxy.stall("server")
        return await recovery.resolve(*args)

    async with opened(proxy.through(database_url)) as store:
        made = await bench(store)
        await warm(made)
        monkeypatch.setattr(write_lane, "resolve", stalled)
        began = time.monotonic()
        rule = proxy.swallow_answer("S")
        with pytest.raises(OutcomeUnknownError):
            await made.asset.aset("there", 1)
        assert rule.fired
        assert time.monotonic() - began < OPERATION_TIMEOUT + GRACE
        proxy.resume()
        await made.asset.aset("there", 2)


async def test_what_the_server_said_is_told_where_it_cannot_be_asked_again(proxy: Proxy, database_url: str) -> None:
    async with opened(proxy.through(database_url), operation_timeout=1.0) as store:
        made = await bench(store)
        await warm(made)
        async with connected(database_url) as connection:
            await connection.execute(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$"
                " BEGIN RAISE EXCEPTION 'as on a standby' USING ERRCODE = '25006'; END $$;"
                "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON asyncstore_asset_state"
                " FOR EACH ROW EXECUTE FUNCTION refuse()"
            )
        proxy.refuse()
        with pytest.raises(StoreReadOnlyError, match="as on a standby"):
            await made.asset.aset("warm", 3)
        proxy.accept()
        assert (await look(database_url)).kept.values["orders", "warm"] == 2


async def test_batches_of_tasks_that_are_cleared_meanwhile(database_url: str) -> None:
    scopes = [TaskScope("dag", "run", f"task{number}") for number in range(6)]
    async with opened(database_url) as store, opened(database_url) as other:

        async def write() -> None:
            for number in range(200):
                await asyncio.gather(*(store.task_state(scope).aset("key", number) for scope in scopes))

        async def clear() -> None:
            for _ in range(200):
                await asyncio.gather(*(other.task_state(scope).aclear() for scope in scopes))

        async with asyncio.timeout(30):
            await asyncio.gather(write(), clear())
            await asyncio.gather(*(store.task_state(scope).aset("key", "last") for scope in scopes))
        assert [await other.task_state(scope).aget("key") for scope in scopes] == ["last"] * 6
