"""Contract of garbage collection and of the deletion of runs."""

from __future__ import annotations

import warnings

import pytest

from ..abc import BaseStoreBackend, Capability
from ..errors import BlockingCallWarning
from ..records import CleanupBatch
from ..retention import NEVER_EXPIRE
from ..scopes import TaskScope
from .harness import TASK, ConformanceBase, Harness, requires

__all__ = ["CleanupConformance"]

KEYS = ["a", "b", "c", "d", "e"]
OTHER = TaskScope("dag", "run", "mapped/é", 3)


async def _fill(harness: Harness) -> None:
    """Write what expires at the retention, a tick later, never, and what belongs to an asset."""
    call = harness.call
    for number, key in enumerate(KEYS):
        await call(harness.task(OTHER if number % 2 else TASK).aset, key, 1, retention=harness.retention)
    for state in (harness.task(), harness.task(OTHER)):
        await call(state.aset, "later", 1, retention=harness.retention + harness.tick)
        await call(state.aset, "never", 1, retention=NEVER_EXPIRE)
    await call(harness.asset().aset, "a", 1)


async def _skips(harness: Harness) -> bool:
    """Hold a backend that cannot clean up to a report that names it; tell whether it is one."""
    if harness.has(Capability.CLEANUP):
        return False
    backend = harness.backend
    name = type(backend).__name__
    own = type(backend).acleanup is not BaseStoreBackend.acleanup or callable(getattr(backend, "cleanup", None))
    for dry_run in (True, False):
        report = await harness.call(harness.store.acleanup, dry_run=dry_run)
        assert (report.backend, report.dry_run) == (name, dry_run)
        assert (name in (report.skipped or "")) is (dry_run or not own)
    return True


class CleanupConformance(ConformanceBase):
    """Hold a backend to `acleanup` and `adelete_run`."""

    async def test_cleanup(self, harness: Harness) -> None:
        """Delete exactly the expired rows; or report by name a backend that cannot."""
        call, store = harness.call, harness.store
        await _fill(harness)
        await harness.let_pass(harness.retention - harness.tick)
        if await _skips(harness):
            assert await call(harness.task().aget, "a") == 1
            return
        assert (await call(store.acleanup)).deleted == 0
        await harness.let_pass(harness.tick)
        report = await call(store.acleanup)
        name = type(harness.backend).__name__
        assert (report.backend, report.deleted, report.dry_run, report.skipped) == (name, len(KEYS), False, None)
        assert (await call(store.acleanup)).deleted == 0
        for state in (harness.task(), harness.task(OTHER)):
            assert await call(state.aget_many, [*KEYS, "later", "never"]) == {"later": 1, "never": 1}
        assert await call(harness.asset().aget, "a") == 1
        await harness.let_pass(harness.tick)
        assert (await call(store.acleanup)).deleted == 2
        assert await call(harness.task().aget, "never") == 1

    async def test_dry_run(self, harness: Harness) -> None:
        """List each expired row, in the order of expiry, and delete nothing."""
        if await _skips(harness):
            return
        call, store = harness.call, harness.store
        await call(harness.task().aset, "first", 1, retention=harness.retention - harness.tick)
        expiry = harness.now + harness.retention
        await _fill(harness)
        await harness.let_pass(harness.retention)
        for _ in range(2):
            batches: list[CleanupBatch] = []
            report = await call(store.acleanup, dry_run=True, on_batch=batches.append)
            assert (report.deleted, report.dry_run) == (len(KEYS) + 1, True)
            rows = [row for batch in batches for row in batch.rows]
            assert (rows[0].scope, rows[0].key, rows[0].expires_at) == (TASK, "first", expiry - harness.tick)
            assert {(row.scope, row.key) for row in rows[1:]} == {
                (OTHER if number % 2 else TASK, key) for number, key in enumerate(KEYS)
            }
            assert {row.expires_at for row in rows[1:]} == {expiry}
            assert (batches[-1].total, batches[-1].done) == (len(KEYS) + 1, len(KEYS) + 1)
        assert (await call(store.acleanup, dry_run=True)).deleted == len(KEYS) + 1
        assert (await call(store.acleanup)).deleted == len(KEYS) + 1
        batches = []
        assert (await call(store.acleanup, dry_run=True, on_batch=batches.append)).deleted == 0
        assert batches == []

    async def test_batches(self, harness: Harness) -> None:
        """Delete in batches of the size that is set, and tell of each."""
        if await _skips(harness):
            return
        for size, steps in ((0, [5]), (1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (5, [5]), (100, [5])):
            await _fill(harness)
            await harness.let_pass(harness.retention)
            async with harness.open_store(state_cleanup_batch_size=size) as store:
                batches: list[CleanupBatch] = []
                report = await harness.call(store.acleanup, on_batch=batches.append)
                assert report.deleted == len(KEYS)
                assert [(batch.done, batch.total, batch.rows) for batch in batches] == [
                    (step, len(KEYS), ()) for step in steps
                ]
                await harness.call(harness.task().aclear, all_map_indices=True)
                await harness.call(harness.task(OTHER).aclear)

    async def test_an_interruption_loses_no_batch(self, harness: Harness) -> None:
        """Keep deleted what was deleted before an interruption."""
        if await _skips(harness):
            return
        await _fill(harness)
        await harness.let_pass(harness.retention)

        def interrupt(batch: CleanupBatch) -> None:
            if batch.done == 4:
                raise RuntimeError("interrupted")

        async with harness.open_store(state_cleanup_batch_size=2) as store:
            with pytest.raises(RuntimeError, match="interrupted"):
                await harness.call(store.acleanup, on_batch=interrupt)
            assert (await harness.call(store.acleanup, dry_run=True)).deleted == len(KEYS) - 4
            assert (await harness.call(store.acleanup)).deleted == len(KEYS) - 4

    async def test_what_is_written_again_is_kept(self, harness: Harness) -> None:
        """Leave a key alone that expired and was written since."""
        call, state = harness.call, harness.task()
        for key in ("again", "forever"):
            await call(state.aset, key, 1, retention=harness.retention)
        await harness.let_pass(harness.retention)
        await call(state.aset, "again", 2, retention=harness.retention)
        await call(state.aset, "forever", 2, retention=NEVER_EXPIRE)
        if not await _skips(harness):
            assert (await call(harness.store.acleanup)).deleted == 0
        assert await call(state.aget_many, ["again", "forever"]) == {"again": 2, "forever": 2}

    async def test_what_is_written_meanwhile_is_kept(self, harness: Harness) -> None:
        """Leave a key alone that is written between two batches."""
        if await _skips(harness):
            return
        state = harness.task()
        for number, key in enumerate("abc", 1):
            await harness.call(state.aset, key, 1, retention=harness.tick * number)
        await harness.let_pass(harness.tick * 3)

        def write(batch: CleanupBatch) -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", BlockingCallWarning)
                state.set(f"written at {batch.done}", 2)
                if batch.done == 1:
                    state.set("c", 2)

        async with harness.open_store(state_cleanup_batch_size=1) as store:
            report = await harness.call(store.acleanup, on_batch=write)
        assert report.deleted == 2
        expected = {"c": 2, "written at 1": 2, "written at 2": 2}
        assert await harness.call(state.aget_many, ["a", "b", *expected]) == expected

    @requires(Capability.CLEANUP)
    async def test_delete_run(self, harness: Harness) -> None:
        """Delete the state of every task of a run, and of no other."""
        call = harness.call
        run = [TASK, TaskScope("dag", "run", "task", 0), TaskScope("dag", "run", "other")]
        others = [TaskScope("dag", "run2", "task"), TaskScope("dag2", "run", "task"), TaskScope("run", "dag", "task")]
        for scope in (*run, *others):
            await call(harness.task(scope).aset, "a", 1)
            await call(harness.task(scope).aset, "b", 1, retention=NEVER_EXPIRE)
        assert await call(harness.store.adelete_run, "dag", "%") == 0
        assert await call(harness.store.adelete_run, "dag", "run") == 2 * len(run)
        assert await call(harness.store.adelete_run, "dag", "run") == 0
        for scope in run:
            assert await call(harness.task(scope).aget_many, ["a", "b"]) == {}
        for scope in others:
            assert await call(harness.task(scope).aget_many, ["a", "b"]) == {"a": 1, "b": 1}
