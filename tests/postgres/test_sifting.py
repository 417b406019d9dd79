"""What goes first of a batch is of one kind, and nothing overtakes what it must come behind."""

from __future__ import annotations

import asyncio
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from asyncstore import AssetScope, Clear, Commit, Delete, Lease, NewEvent, Put, Scope, TaskScope
from asyncstore.backends.metastore.batching import Job
from asyncstore.backends.metastore.postgresql.sifting import are_plain, sift
from asyncstore.backends.metastore.postgresql.writing import Write, WriteJob, waits_for

_ASSETS = [AssetScope(asset_id=number) for number in (1, 2)]
_TASKS = [TaskScope("dag", "run", "task", number) for number in (-1, 0)]
_SCOPES: st.SearchStrategy[Scope] = st.sampled_from([*_ASSETS, *_TASKS])
_KEYS = st.sampled_from("abc")


def _put(scope: Scope, key: str) -> Commit:
    return Commit((Put(scope, key, "1"),))


def _delete(scope: Scope, key: str) -> Commit:
    return Commit((Delete(scope, key),))


def _clear(scope: TaskScope, all_map_indices: bool) -> Commit:
    return Commit((Clear(scope, all_map_indices),))


def _event(number: int, key: str) -> Commit:
    lease = Lease(number, 1, _ASSETS[0], f"watcher{number}")
    return Commit((Put(_ASSETS[0], key, "1"),), (NewEvent("1"),), lease)


_puts = st.builds(_put, _SCOPES, _KEYS)
_deletes = st.builds(_delete, _SCOPES, _KEYS)
_clears = st.builds(_clear, st.sampled_from(_TASKS), st.booleans())
_events = st.builds(_event, st.integers(1, 2), _KEYS)
_batches = st.lists(st.one_of(_puts, _puts, _deletes, _clears, _events), min_size=1, max_size=12)


def _meet(one: WriteJob, two: WriteJob) -> bool:
    return any(
        place == other and (key is None or other_key is None or key == other_key)
        for place, key in waits_for(one.asked.commit)
        for other, other_key in waits_for(two.asked.commit)
    )


@given(_batches)
def test_nothing_overtakes_what_it_must_come_behind(commits: list[Commit]) -> None:
    loop = asyncio.new_event_loop()
    try:
        batch: list[WriteJob] = [Job(Write(commit, 1.0), loop.create_future()) for commit in commits]
        now, later = sift(batch)
    finally:
        loop.close()
    assert now[0] is batch[0], "whoever came first goes first"
    assert sorted(map(id, now + later)) == sorted(map(id, batch))
    assert now == [job for job in batch if job in now]
    assert later == [job for job in batch if job in later]
    for first, second in combinations(batch, 2):
        if _meet(first, second):
            assert not (first in later and second in now)
    assert are_plain(now) is (now[0].asked.put is not None)
    assert {job.asked.put is None for job in now} == {now[0].asked.put is None}
