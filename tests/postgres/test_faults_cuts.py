"""Connections cut at every message of an operation: reads succeed; writes happen once, or nobody knows."""

from __future__ import annotations

import time
from itertools import count
from typing import Literal

import pytest

from asyncstore import OutcomeUnknownError
from tests.postgres.databases import Databases
from tests.postgres.proxy import Proxy
from tests.postgres.store_operations import READS, WRITES, Bench, Operation, bench
from tests.postgres.store_support import (
    GRACE,
    OPERATION_TIMEOUT,
    ORDERS,
    audited,
    look,
    opened,
)
from tests.postgres.traffic import How, Rule

pytestmark = pytest.mark.anyio

#: Cut instead of sending a message, after it, instead of the answer to a request, and instead of a message of that.
Act = Literal["before", "after", "done", "answer"]
ACTS: tuple[Act, ...] = ("before", "after", "done", "answer")
#: What an operation takes at least: a client binds, executes and syncs; the server says three things or more.
LEAST = {"before": 3, "after": 3, "done": 1, "answer": 3}


@pytest.fixture(scope="session")
def database_template(postgres: Databases) -> str:
    return audited(postgres)


def arm(proxy: Proxy, act: Act, nth: int, how: How) -> Rule:
    if act == "before":
        return proxy.cut_before(nth=nth, how=how)
    if act == "after":
        return proxy.cut_after(nth=nth, how=how)
    if act == "done":
        return proxy.swallow_answer("S", nth=nth, how=how)
    return proxy.cut_before(side="server", nth=nth, how=how)


async def attempt(made: Bench, operation: Operation, number: int, where: str, url: str) -> None:
    """Run an operation, and hold what it says against what is in the database."""
    began = time.monotonic()
    unknown = False
    try:
        await operation.run(made, number)
    except OutcomeUnknownError:
        unknown = True
    assert time.monotonic() - began < OPERATION_TIMEOUT + GRACE, where
    after = await look(url)
    done = operation.after(made.before.kept, number)
    outcome = after.kept, after.writes - made.before.writes
    if unknown:
        assert operation.change is not None, f"{where}: a read can be repeated"
        assert outcome in [(made.before.kept, 0), (done, operation.rows)], where
    else:
        assert outcome == (done, operation.rows), where
    for place, version in made.before.versions.items():
        if place in after.versions:
            changed = after.kept.values[place] != made.before.kept.values[place]
            assert (after.versions[place] > version) is changed, f"{where}: {place}"


async def prepare(made: Bench, operation: Operation, number: int, url: str) -> None:
    if operation.prepare is not None:
        await operation.prepare(made, number)
    made.before = await look(url)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("operation", [*READS, *WRITES], ids=str)
async def test_a_connection_that_is_cut_while_in_use(
    operation: Operation, act: Act, proxy: Proxy, database_url: str
) -> None:
    async with opened(proxy.through(database_url)) as store:
        made = await bench(store)
        for number in (1, 2):  # so that all is prepared
            await prepare(made, operation, number, database_url)
            await operation.run(made, number)
        nth = 0
        for nth in count(1):
            number = nth + 2
            await prepare(made, operation, number, database_url)
            rule = arm(proxy, act, nth, "rst" if nth % 2 else "fin")
            await attempt(made, operation, number, f"{operation}, {act} message {nth}", database_url)
            if not rule.fired:
                proxy.clear()
                break
        assert nth > LEAST[act], f"only {nth - 1} messages were cut"


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("operation", [READS[0], WRITES[0], WRITES[-3]], ids=str)
async def test_a_connection_that_is_cut_from_its_beginning(
    operation: Operation, act: Act, proxy: Proxy, database_url: str
) -> None:
    async with opened(database_url) as store:
        made = await bench(store)
        nth = 0
        for nth in count(1):
            await prepare(made, operation, nth, database_url)
            rule = arm(proxy, act, nth, "rst" if nth % 2 else "fin")
            where = f"{operation}, {act} message {nth}"
            async with opened(proxy.through(database_url)) as cold:
                fresh = Bench(cold, type(made.claimed)(cold.core, ORDERS, made.claimed.lease), made.before)
                await attempt(fresh, operation, nth, where, database_url)
            if not rule.fired:
                proxy.clear()
                break
        assert nth > 3 * LEAST[act], f"only {nth - 1} messages were cut"
