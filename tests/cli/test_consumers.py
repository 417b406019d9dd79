"""`asyncstore events tail`, `replay`, `failed`, `retry`, `forget`, `consumers` and `prune`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import Any

import pytest

from asyncstore import Asset, ConsumerSettings, connect
from tests.cli.support import URL, call, record, spawn, start

ORDERS = Asset("orders", uri="s3://warehouse/orders/")


def payloads(out: str) -> list[Any]:
    return [json.loads(line)["payload"] for line in out.splitlines()]


async def fail_all(count: int) -> None:
    async with connect(URL) as store:
        options = ConsumerSettings(max_attempts=1)
        async with store.events(ORDERS, consumer="loader", settings=options) as events:
            async for event in events:
                try:
                    raise ZeroDivisionError(event.payload)
                except ZeroDivisionError as error:
                    await event.afail(error)
                count -= 1
                if not count:
                    return


def test_tail_goes_on_where_it_ended() -> None:
    asyncio.run(record(ORDERS, list(range(4))))
    assert payloads(call("events", "tail", "orders", "--consumer", "a", "--limit", "3").out) == [0, 1, 2]
    assert payloads(call("events", "tail", ORDERS.uri, "--consumer", "a", "--limit", "1").out) == [3]
    assert payloads(call("events", "tail", "orders", "--consumer", "b", "--limit", "1").out) == [0]
    assert call("events", "tail", "orders", "--consumer", "b", "--limit", "0").out == ""
    listed = call("events", "consumers").out.splitlines()
    assert listed[0] == "orders\ta\t4\t0\t0\t0\t0\t0"
    assert listed[1].startswith("orders\tb\t1\t3\t")


def test_tail_begins_where_it_is_told_and_waits_until_interrupted() -> None:
    asyncio.run(record(ORDERS, [0, 1]))
    with start("events", "tail", "orders", "--consumer", "a", "--start", "2") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["payload"] == 1
        asyncio.run(record(ORDERS, [2]))
        assert json.loads(process.stdout.readline())["payload"] == 2
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr.read() == b"interrupted\n"
    # Interrupted between its line and its end, the last event comes again.
    (found,) = map(json.loads, call("events", "consumers", "--json").out.splitlines())
    assert (found["behind"], found["in_hand"]) == (0, 0)


def test_a_reader_that_leaves_is_no_failure_of_the_event_at_hand() -> None:
    asyncio.run(record(ORDERS, [0]))
    for _ in range(2):
        reader, writer = os.pipe()
        os.close(reader)
        try:
            assert spawn("events", "tail", "orders", "--consumer", "a", stdout=writer).code == 141
        finally:
            os.close(writer)
    with connect(URL) as store:
        (found,) = store.list_consumers()
        assert (found.in_hand, found.waiting, found.failed) == (0, 1, 0)
    assert asyncio.run(attempt("a")) == 1


async def attempt(consumer: str) -> int:
    async with connect(URL) as store:
        async for event in store.events(ORDERS, consumer=consumer):
            return event.attempt
    raise AssertionError


def test_tail_says_where_it_does_not_begin() -> None:
    asyncio.run(record(ORDERS, [0, 1, 2]))
    tail = ("events", "tail", "orders", "--consumer", "a", "--limit", "1")
    assert spawn(*tail, "--start", "2").err == ""
    assert spawn(*tail, "--start", "2").err == ""
    asyncio.run(record(ORDERS, [3]))
    done = spawn(*tail, "--start", "1")
    assert (done.code, payloads(done.out)) == (0, [3])
    assert "and not at start=1: it began at start=2" in done.err


def test_replay_retry_failed_and_forget() -> None:
    recorded = asyncio.run(record(ORDERS, [0, 1, 2]))
    asyncio.run(fail_all(3))
    lines = [json.loads(line) for line in call("events", "failed", "orders", "--consumer", "loader").out.splitlines()]
    assert [(line["payload"], line["consumer"], line["attempts"]) for line in lines] == [
        (number, "loader", 1) for number in range(3)
    ]
    assert "ZeroDivisionError: 1" in lines[1]["error"]
    assert lines[0]["failed_at"].endswith("Z")
    one = str(recorded[1].id)
    assert call("events", "retry", "orders", one, "--consumer", "loader").out == "1 event(s) are delivered again.\n"
    assert payloads(call("events", "tail", "orders", "--consumer", "loader", "--limit", "1").out) == [1]
    assert call("events", "replay", "orders", "--consumer", "loader", "--to", one).out.startswith("2 event(s)")
    assert payloads(call("events", "failed", "orders", "--consumer", "loader").out) == [0]
    moment = recorded[0].created_at.isoformat()
    assert call("events", "replay", "orders", "--consumer", "loader", "--to", moment).out.startswith("1 event(s)")
    assert payloads(call("events", "tail", "orders", "--consumer", "loader", "--limit", "3").out) == [0, 1, 2]
    assert call("events", "retry", "orders", "--consumer", "loader").out.startswith("0 event(s)")
    assert call("events", "forget", "orders", "--consumer", "loader", "--yes").out == "Forgot consumer loader.\n"
    assert call("events", "consumers").out == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("tail", "oders", "--consumer", "a"), "no asset is registered under the name or URI 'oders'"),
        (("failed", "orders", "--consumer", "laoder"), "has no consumer 'laoder'"),
        (("tail", "orders"), "Missing option '--consumer'"),
        (("replay", "orders", "--consumer", "a"), "Missing option '--to'"),
        (("replay", "orders", "--consumer", "a", "--to", "beginning"), "'beginning' is none of: the id of an event"),
        (("tail", "orders", "--consumer", "a", "--start", "2026-01-01T00:00:00"), "has no time zone; write 2026"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], says: str) -> None:
    asyncio.run(record(ORDERS, [0]))
    done = call("events", *arguments)
    assert (done.code, done.out) == (2, "")
    assert says in done.err


def test_prune(monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(record(ORDERS, [0, 1, 2]))
    assert call("events", "prune").out == ("Skipped: [state_store] keep_events_days and keep_events_count are 0\n")
    monkeypatch.setenv("ASYNCSTORE__STATE_STORE__KEEP_EVENTS_COUNT", "1")
    call("events", "tail", "orders", "--consumer", "a", "--limit", "1")
    assert call("events", "prune", "--dry-run").out == "Would delete 1 event(s).\n"
    assert call("events", "prune").out == "Deleted 1 event(s).\n"
    assert payloads(call("events", "list").out) == [1, 2]
    assert call("events", "prune", "--unfinished", "--yes").out == "Deleted 1 event(s).\n"
    assert payloads(call("events", "list").out) == [2]
