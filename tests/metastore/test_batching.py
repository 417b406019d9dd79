"""What is asked for at once has the outcomes and leaves the state of the same asked for one after the other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings

from asyncstore import Commit, ManualClock, MetastoreBackend, Put
from asyncstore.backends.metastore.batching import Job
from asyncstore.backends.metastore.sqlite import desk
from asyncstore.backends.metastore.sqlite.desk import _Writes  # pyright: ignore[reportPrivateUsage]
from tests.postgres.test_batching import Change, Read, Write, both, plans, starts, sure

from .support import PATIENCE, TASK
from .test_processes import at_once as in_threads

SECOND = timedelta(seconds=1)


@pytest.fixture(params=["file", "memory"])
def any_url(request: pytest.FixtureRequest, url: str) -> str:
    return url if request.param == "file" else "sqlite://"


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Give the sizes of the batches of writes."""
    found: list[int] = []
    sending = _Writes.sending

    def counted(self: _Writes, jobs: Sequence[Job[Any, Any]]) -> None:
        found.append(len(jobs))
        sending(self, jobs)

    monkeypatch.setattr(_Writes, "sending", counted)
    return found


def compare_plans(url: str, examples: int) -> None:
    clock = ManualClock()
    count = 0
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())
        backend = MetastoreBackend(url, clock=clock)
        stack.callback(lambda: runner.run(backend.aclose()))
        runner.run(backend.aopen())

        @settings(max_examples=examples, deadline=None, derandomize=True, database=None)
        @given(starts, plans)
        def compare(start: list[Change], plan: list[Write | Read]) -> None:
            nonlocal count
            count += 1
            clock.advance(SECOND)
            runner.run(both(backend, clock, f"example {count}", start, sure(plan)))

        compare()


def test_together_as_one_after_the_other(any_url: str, sizes: list[int]) -> None:
    compare_plans(any_url, 150)
    assert max(sizes) > 8
    assert sum(size > 1 for size in sizes) > 50


@pytest.mark.parametrize("limit", ["MOST_BYTES", "MOST_SECONDS"])
def test_a_batch_in_parts_as_one_after_the_other(
    any_url: str, sizes: list[int], limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A value has up to three characters; and a procedure is always slow.
    monkeypatch.setattr(desk, limit, 4 if limit == "MOST_BYTES" else -1)
    compare_plans(any_url, 50)
    assert max(sizes) > 8


def test_versions_grow_whoever_writes_at_once(any_url: str) -> None:
    backend = MetastoreBackend(any_url, lock_timeout=PATIENCE)
    backend.set(TASK, "key", "0")
    seen: list[int] = []
    guard = threading.Lock()

    def commit(number: int) -> Commit:
        return Commit((*(Put(TASK, f"{place}", "1") for place in range(number % 3)), Put(TASK, "key", "1")))

    async def call(number: int) -> list[int]:
        return list((await backend.acommit(commit(number))).versions)

    async def loop() -> list[list[int]]:
        return [versions for _ in range(5) for versions in await asyncio.gather(*map(call, range(20)))]

    def work(number: int) -> None:
        if number % 2:
            made = asyncio.run(loop())
        else:
            made = [backend.run_blocking(partial(call, place)) for place in range(60)]
        in_order = [version for versions in made for version in versions]
        assert in_order == sorted(in_order)
        with guard:
            seen.extend(in_order)

    in_threads(6, work)
    assert len(seen) == len(set(seen))
    entry = asyncio.run(backend.aget_entry(TASK, "key"))
    assert entry is not None
    assert entry.version == max(seen)
    backend.run_blocking(backend.aclose)
