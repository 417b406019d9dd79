"""What a backend remembers of the references that rows let go of."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ..abc import Capability
from ..changes import Clear, Commit, Delete, Put
from ..errors import VersionConflictError
from ..offload.stored import Reference
from ..scopes import TaskScope
from .harness import TASK, ConformanceBase, Harness, awaited, requires

__all__ = ["LeftoverConformance"]

_OTHER = TaskScope("dag", "run", "task", 3)


def _immutable(name: str) -> str:
    return Reference(name, 1, name * 3).text


def _in_place(name: str) -> str:
    return Reference(name, 1, name * 3, "package.Class", ("task", TASK.ti_id, "key")).text


async def _left(harness: Harness) -> list[str]:
    """Give what is remembered, and forget it."""
    leftovers = harness.backend.leftovers
    found = await harness.call(leftovers.alist, limit=1000)
    await harness.call(leftovers.aforget, [each.id for each in found])
    assert await harness.call(leftovers.alist, limit=1000) == []
    return sorted(each.text for each in found)


class LeftoverConformance(ConformanceBase):
    """Hold what follows a reference of a worker-side backend when its row goes."""

    @requires(Capability.LEFTOVERS | Capability.COMMIT)
    async def test_a_reference_is_remembered_when_its_row_is_overwritten_or_deleted(self, harness: Harness) -> None:
        """Remember the reference, whichever way its row goes; and no value."""
        call, backend = harness.call, harness.backend
        asset = await harness.asset_scope()
        for scope in (TASK, asset):
            await call(backend.aset, scope, "key", _immutable("a"))
            await call(backend.aset, scope, "other", '"@"')
            assert await _left(harness) == []
            await call(backend.aset, scope, "key", _immutable("a"))
            await call(backend.aset, scope, "other", "1")
            assert await _left(harness) == []
            await call(backend.aset, scope, "key", _immutable("b"))
            assert await _left(harness) == [_immutable("a")]
            await call(backend.aset, scope, "key", "1")
            assert await _left(harness) == [_immutable("b")]
            await call(backend.aset, scope, "key", _immutable("c"))
            await call(backend.adelete, scope, "key")
            assert await _left(harness) == [_immutable("c")]
            await call(backend.aset, scope, "key", _immutable("d"))
            await call(backend.aclear, scope)
            assert await _left(harness) == [_immutable("d")]

    @requires(Capability.LEFTOVERS | Capability.COMMIT)
    async def test_what_is_kept_in_place_is_remembered_when_its_row_goes_only(self, harness: Harness) -> None:
        """Remember nothing when it is overwritten: the object is the new value's."""
        call, backend = harness.call, harness.backend
        await call(backend.aset, TASK, "key", _in_place("a"))
        await call(backend.aset, TASK, "key", _in_place("b"))
        assert await _left(harness) == []
        await call(backend.adelete, TASK, "key")
        assert await _left(harness) == [_in_place("b")]

    @requires(Capability.LEFTOVERS | Capability.COMMIT)
    async def test_what_is_undone_leaves_nothing(self, harness: Harness) -> None:
        """Remember nothing of a commit that was refused."""
        call, backend = harness.call, harness.backend
        await call(backend.aset, TASK, "key", _immutable("a"))
        changes = (Put(TASK, "key", "1"), Delete(TASK, "key"), Clear(TASK), Put(TASK, "other", "1", None, 7))
        with pytest.raises(VersionConflictError):
            await call(backend.acommit, Commit(changes))
        assert await _left(harness) == []
        assert await call(backend.aget, TASK, "key") == _immutable("a")

    @requires(Capability.LEFTOVERS | Capability.COMMIT)
    async def test_several_changes_of_one_key_leave_what_was_between(self, harness: Harness) -> None:
        """Remember each reference that a commit wrote and overwrote again."""
        changes = (Put(TASK, "key", _immutable("a")), Put(TASK, "key", _immutable("b")), Delete(TASK, "key"))
        await harness.call(harness.backend.acommit, Commit(changes))
        assert set(await _left(harness)) <= {_immutable("a"), _immutable("b")}
        await harness.call(harness.backend.aset, TASK, "key", "1")
        assert await _left(harness) == []

    @requires(Capability.LEFTOVERS | Capability.COMMIT | Capability.CLEANUP)
    async def test_whole_runs_and_what_has_expired_leave_theirs(self, harness: Harness) -> None:
        """Remember what goes in bulk."""
        call, backend = harness.call, harness.backend
        expiry = harness.now + harness.retention
        await call(backend.aset, TASK, "key", _immutable("a"), expires_at=expiry)
        await call(backend.aset, _OTHER, "key", _immutable("b"))
        await harness.let_pass(harness.retention)
        assert (await call(backend.acleanup, dry_run=True)).deleted == 1
        assert await _left(harness) == []
        await call(backend.acleanup)
        assert await _left(harness) == [_immutable("a")]
        await call(backend.adelete_run, "dag", "run")
        assert await _left(harness) == [_immutable("b")]
        await call(backend.aset, _OTHER, "key", _immutable("b"))
        await call(backend.aclear, TASK, all_map_indices=True)
        assert await _left(harness) == [_immutable("b")]

    @requires(Capability.LEFTOVERS | Capability.COMMIT | Capability.ASSETS)
    async def test_swept_and_deleted_assets_leave_theirs(self, harness: Harness) -> None:
        """Remember what goes with an asset."""
        call, backend = harness.call, harness.backend
        asset = await harness.asset_scope()
        await call(backend.aset, asset, "key", _immutable("c"))
        await call(backend.adeactivate_asset, asset)
        await harness.let_pass(harness.tick)
        await call(backend.asweep_assets, timedelta(0))
        assert await _left(harness) == [_immutable("c")]
        await call(backend.aactivate_asset, asset)
        await call(backend.aset, asset, "key", _immutable("d"))
        await call(backend.adelete_asset, asset)
        assert await _left(harness) == [_immutable("d")]

    @requires(Capability.LEFTOVERS | Capability.COMMIT)
    @awaited
    async def test_they_are_listed_page_by_page(self, harness: Harness) -> None:
        """List them from the oldest on; and tell the store from others, always in the same way."""
        backend = harness.backend
        for number in range(5):
            await backend.aset(TASK, "key", _immutable(str(number)))
        first = await backend.leftovers.alist(limit=3)
        rest = await backend.leftovers.alist(after=first[-1].id, limit=3)
        assert [each.text for each in first + rest] == [_immutable(str(number)) for number in range(4)]
        assert await backend.leftovers.aidentity() == await backend.leftovers.aidentity() != ""
