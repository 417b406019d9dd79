"""Contract of entries, versions and writes of several keys: all of them or none."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from ..abc import Capability
from ..changes import Change, Clear, Commit, Delete, Put
from ..errors import AssetNotFoundError, VersionConflictError
from ..scopes import AssetScope, Scope, TaskScope
from .harness import TASK, ConformanceBase, Harness, requires

__all__ = ["VersionConformance"]

VERSIONS = Capability.ENTRIES | Capability.COMMIT
CROWD = 4


async def _version(harness: Harness, key: str = "key", scope: TaskScope = TASK) -> int:
    entry = await harness.call(harness.task(scope).aget_entry, key)
    return 0 if entry is None else entry.version


class VersionConformance(ConformanceBase):
    """Hold a backend to entries, `if_version` and atomic commits."""

    @requires(Capability.ENTRIES)
    async def test_entry(self, harness: Harness) -> None:
        """Tell the value, its version, and when and by whom it was written."""
        call = harness.call
        for state in (harness.task(), harness.asset()):
            assert await call(state.aget_entry, "key") is None
            await call(state.aset, "key", ["é", None])
            entry = await call(state.aget_entry, "key")
            assert entry is not None
            assert entry.value == ["é", None]
            assert entry.version > 0
            assert abs(entry.updated_at - harness.now) < harness.tick
            assert entry.updated_at.utcoffset() is not None
            assert entry.updated_by is None
            await harness.let_pass(harness.tick * 2)
            await call(state.aset, "key", ["é", None])
            later = await call(state.aget_entry, "key")
            assert later is not None
            assert later.version > entry.version
            assert later.updated_at > entry.updated_at

    @requires(Capability.ENTRIES)
    async def test_backend_entry(self, harness: Harness) -> None:
        """Give the text with its version."""
        call, backend = harness.call, harness.backend
        for scope in await harness.scopes():
            assert await call(backend.aget_entry, scope, "key") is None
            await call(backend.aset, scope, "key", '"text"')
            entry = await call(backend.aget_entry, scope, "key")
            assert entry is not None
            assert (entry.text, entry.expires_at) == ('"text"', None)
            await call(backend.adelete, scope, "key")
            assert await call(backend.aget_entry, scope, "key") is None

    @requires(Capability.ENTRIES)
    async def test_versions_are_never_used_again(self, harness: Harness) -> None:
        """Give every write of a key a larger version, whatever happened to the key before it."""
        call, state = harness.call, harness.task()
        last = 0
        steps: list[Any] = [
            lambda: call(state.aset, "key", 0),
            lambda: call(state.adelete, "key"),
            lambda: call(state.aclear),
            lambda: call(state.aclear, all_map_indices=True),
            lambda: harness.let_pass(harness.retention),
        ]
        if harness.has(Capability.CLEANUP):
            steps.append(lambda: call(harness.store.adelete_run, TASK.dag_id, TASK.run_id))
        for step in (*steps, *steps):
            await call(state.aset, "key", 1, retention=harness.retention)
            version = await _version(harness)
            assert version > last
            last = version
            await step()
            last = max(last, await _version(harness))
        if harness.has(Capability.CLEANUP):
            await harness.let_pass(harness.retention)
            await call(harness.store.acleanup)
            await call(state.aset, "key", 2)
            assert await _version(harness) > last

    @requires(Capability.ENTRIES)
    async def test_versions_of_an_asset_grow(self, harness: Harness) -> None:
        """Give every write of an asset's key a larger version."""
        call, state = harness.call, harness.asset()
        last = 0
        steps: list[Any] = [lambda: call(state.adelete, "key"), lambda: call(state.aclear)]
        for step in steps * 2:
            await call(state.aset, "key", 1)
            entry = await call(state.aget_entry, "key")
            assert entry is not None
            assert entry.version > last
            last = entry.version
            await step()

    @requires(VERSIONS)
    async def test_if_version(self, harness: Harness) -> None:
        """Write only where the stored version is the expected one, and name both where it is not."""
        call = harness.call
        for state in (harness.task(), harness.asset()):
            with pytest.raises(VersionConflictError) as conflict:
                await call(state.aset, "key", "refused", if_version=1)
            assert (conflict.value.key, conflict.value.expected, conflict.value.actual) == ("key", 1, 0)
            assert await call(state.aget, "key") is None
            await call(state.aset, "key", "first", if_version=0)
            first = await call(state.aget_entry, "key")
            assert first is not None
            for wrong in (0, first.version - 1, first.version + 1):
                with pytest.raises(VersionConflictError, match=rf"{wrong}.*{first.version}") as conflict:
                    await call(state.aset, "key", "refused", if_version=wrong)
                assert (conflict.value.expected, conflict.value.actual) == (wrong, first.version)
                assert await call(state.aget_entry, "key") == first
            await call(state.aset, "key", "second", if_version=first.version)
            assert await call(state.aget, "key") == "second"
            await call(state.adelete, "key")
            with pytest.raises(VersionConflictError):
                await call(state.aset, "key", "refused", if_version=first.version)
            await call(state.aset, "key", "third", if_version=0)
            assert await call(state.aget, "key") == "third"

    async def test_refused_versions(self, harness: Harness) -> None:
        """Refuse what is no version."""
        wrong: list[tuple[Any, type[Exception]]] = [
            (-1, ValueError),
            (True, TypeError),
            (1.0, TypeError),
            ("1", TypeError),
        ]
        for state in (harness.task(), harness.asset()):
            await harness.call(state.aset, "key", 1)
            for version, error in wrong:
                with pytest.raises(error, match="if_version"):
                    await harness.call(state.aset, "key", 2, if_version=version)
            assert await harness.call(state.aget, "key") == 1

    @requires(VERSIONS)
    async def test_if_version_lets_one_through(self, harness: Harness) -> None:
        """Let exactly one of those through that create a key at once."""
        state = harness.task()
        await harness.call(state.aset, "other", 0, if_version=0)
        won: list[int] = []

        async def create(number: int) -> None:
            try:
                await harness.call(state.aset, "key", number, if_version=0)
            except VersionConflictError:
                return
            won.append(number)

        async with anyio.create_task_group() as group:
            for number in range(CROWD):
                group.start_soon(create, number)
        assert won == [await state.aget("key")]

    @requires(Capability.COMMIT)
    async def test_set_many(self, harness: Harness) -> None:
        """Write several keys, the old and the new."""
        call = harness.call
        for state in (harness.task(), harness.asset()):
            await call(state.aset_many, {"b": 1, "a": [2], "c": {"d": 3}})
            await call(state.aset_many, {"b": 10, "e": 5})
            assert await call(state.aget_many, list("abce")) == {"a": [2], "b": 10, "c": {"d": 3}, "e": 5}
            await call(state.aset_many, {})
            pairs: Any = [("a", 1)]
            with pytest.raises(TypeError, match="map"):
                await call(state.aset_many, pairs)

    @requires(VERSIONS)
    async def test_set_many_gives_each_key_a_version(self, harness: Harness) -> None:
        """Give each key of a commit a version of its own."""
        await harness.call(harness.task().aset_many, {"a": 1, "b": 2, "c": 3})
        versions = {await _version(harness, key) for key in "abc"}
        assert len(versions) == 3
        assert min(versions) > 0

    @requires(Capability.COMMIT)
    async def test_backend_commit(self, harness: Harness) -> None:
        """Apply the changes in order, in one commit over several scopes."""
        call, backend = harness.call, harness.backend
        task, asset = await harness.scopes()
        await call(backend.aset, task, "old", "1")
        changes: list[Change] = [Put(task, "gone", "1"), Clear(task), Put(task, "a", "1"), Put(asset, "a", "2")]
        changes += [Put(task, "a", "3"), Delete(asset, "none"), Put(asset, "b", "4"), Delete(asset, "b")]
        result = await call(backend.acommit, Commit(tuple(changes)))
        puts = [version for version, change in zip(result.versions, changes, strict=True) if isinstance(change, Put)]
        assert puts == sorted(set(puts))
        assert puts[0] > 0
        others = {
            version for version, change in zip(result.versions, changes, strict=True) if not isinstance(change, Put)
        }
        assert others == {0}
        assert abs(result.committed_at - harness.now) < harness.tick
        assert await call(backend.aget_many, task, ["old", "gone", "a"]) == {"a": "3"}
        assert await call(backend.aget_many, asset, ["a", "b"]) == {"a": "2"}

    @requires(VERSIONS)
    async def test_backend_commit_gives_versions(self, harness: Harness) -> None:
        """Say which version each change wrote."""
        call, backend = harness.call, harness.backend
        result = await call(backend.acommit, Commit((Put(TASK, "a", "1"), Put(TASK, "b", "2")), updated_by="me"))
        for key, version in zip("ab", result.versions, strict=True):
            entry = await call(backend.aget_entry, TASK, key)
            assert entry is not None
            assert (entry.version, entry.updated_by) == (version, "me")

    @requires(Capability.COMMIT)
    async def test_backend_commit_is_all_or_nothing(self, harness: Harness) -> None:
        """Undo everything where the last change is refused: new keys, old values, deletions and clears."""
        call, backend = harness.call, harness.backend
        task, asset = await harness.scopes()
        other = TaskScope("dag", "run", "task", 3)
        for scope in (task, asset, other):
            await call(backend.acommit, Commit((Put(scope, "a", '"old"'), Put(scope, "b", '"old"'))))
        before = [await call(backend.aget_many, scope, ["a", "b", "c"]) for scope in (task, asset, other)]
        changes: tuple[Change, ...] = (Put(task, "a", "1"), Put(task, "c", "1"), Delete(task, "b"), Clear(asset))
        changes += (Put(asset, "c", "1"), Clear(task, all_map_indices=True), Put(other, "c", "1"))
        refused: list[tuple[Change, type[Exception]]] = [
            (Put(task, "a", "2", if_version=99_999), VersionConflictError),
            (Put(asset, "b", "2", if_version=99_999), VersionConflictError),
        ]
        if harness.has(Capability.ASSETS):
            nowhere: Scope = AssetScope(name="nowhere")
            refused += [(change, AssetNotFoundError) for change in (Put(nowhere, "a", "1"), Clear(nowhere))]
        for last, error in refused:
            with pytest.raises(error):
                await call(backend.acommit, Commit((*changes, last)))
            after = [await call(backend.aget_many, scope, ["a", "b", "c"]) for scope in (task, asset, other)]
            assert after == before

    @requires(Capability.COMMIT | Capability.MANY)
    async def test_readers_see_whole_commits(self, harness: Harness) -> None:
        """Show a reader of several keys all values of a commit, or none."""
        state = harness.task()
        await harness.call(state.aset_many, dict.fromkeys("abc", 0))
        done = anyio.Event()

        async def write() -> None:
            for number in range(1, 15):
                await harness.call(state.aset_many, dict.fromkeys("abc", number))
            done.set()

        async with anyio.create_task_group() as group:
            group.start_soon(write)
            while not done.is_set():
                assert len(set((await state.aget_many(list("abc"))).values())) == 1
                await checkpoint()
