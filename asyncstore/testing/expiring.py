"""Contract of retention: from `expires_at` on, by the clock, a value is absent to every reader."""

from __future__ import annotations

import pickle
from datetime import timedelta, timezone
from typing import Any

import pytest

from ..abc import Capability
from ..errors import VersionConflictError
from ..retention import NEVER_EXPIRE
from ..scopes import TaskScope
from .harness import TASK, ConformanceBase, Harness, requires

__all__ = ["ExpiryConformance"]

VERSIONS = Capability.ENTRIES | Capability.COMMIT


class ExpiryConformance(ConformanceBase):
    """Hold a backend to the expiry of task state."""

    async def test_backend_expiry(self, harness: Harness) -> None:
        """Honour `expires_at` on read where that is declared; take it anyway."""
        call, backend = harness.call, harness.backend
        expiry = harness.now + harness.retention
        elsewhere = expiry.astimezone(timezone(timedelta(hours=-9, minutes=-30)))
        await call(backend.aset, TASK, "utc", "1", expires_at=expiry)
        await call(backend.aset, TASK, "elsewhere", "2", expires_at=elsewhere)
        await call(backend.aset, TASK, "never", "3", expires_at=None)
        await call(backend.aset, TASK, "kept", "4", expires_at=expiry)
        await call(backend.aset, TASK, "kept", "5")
        keys = ["utc", "elsewhere", "never", "kept"]
        await harness.let_pass(harness.retention - harness.tick)
        assert len(await call(backend.aget_many, TASK, keys)) == 4
        await harness.let_pass(harness.tick)
        if harness.has(Capability.EXPIRY):
            assert await call(backend.aget, TASK, "utc") is None
            assert await call(backend.aget, TASK, "elsewhere") is None
        assert await call(backend.aget, TASK, "never") == "3"
        assert await call(backend.aget, TASK, "kept") == "5"

    async def test_boundary(self, harness: Harness) -> None:
        """Give the value until a tick before its expiry, and not at it."""
        call, state = harness.call, harness.task()
        await call(state.aset, "key", 1, retention=harness.retention)
        await harness.let_pass(harness.retention - harness.tick)
        assert await call(state.aget, "key") == 1
        assert await call(state.aget_many, ["key"]) == {"key": 1}
        await harness.let_pass(harness.tick)
        assert await call(state.aget, "key", default="default") == "default"
        assert await call(state.aget_many, ["key"]) == {}
        await harness.let_pass(harness.retention)
        assert await call(state.aget, "key") is None
        await call(state.aset, "key", 2, retention=harness.retention)
        assert await call(state.aget, "key") == 2

    @requires(Capability.LISTING)
    async def test_boundary_of_keys(self, harness: Harness) -> None:
        """List a key until a tick before its expiry."""
        call, state = harness.call, harness.task()
        await call(state.aset, "expires", 1, retention=harness.retention)
        await call(state.aset, "stays", 1, retention=NEVER_EXPIRE)
        await harness.let_pass(harness.retention - harness.tick)
        assert await call(state.akeys) == ["expires", "stays"]
        await harness.let_pass(harness.tick)
        assert await call(state.akeys) == ["stays"]
        assert await call(state.akeys, "e") == []

    @requires(Capability.ENTRIES)
    async def test_boundary_of_entries(self, harness: Harness) -> None:
        """Tell when a value expires, in UTC; and nothing of it from then on."""
        call, state = harness.call, harness.task()
        expiry = harness.now + harness.retention
        await call(state.aset, "key", 1, retention=harness.retention)
        entry = await call(state.aget_entry, "key")
        assert entry is not None
        assert entry.expires_at == expiry
        assert entry.expires_at is not None
        assert entry.expires_at.utcoffset() == timedelta(0)
        await harness.let_pass(harness.retention - harness.tick)
        assert await call(state.aget_entry, "key") == entry
        await harness.let_pass(harness.tick)
        assert await call(state.aget_entry, "key") is None

    @requires(VERSIONS)
    async def test_expired_is_absent_to_writers(self, harness: Harness) -> None:
        """Take an expired key for an absent one in `if_version`, `aupdate` and `aadvance`."""
        call, state = harness.call, harness.task()
        for key in ("set", "update", "advance"):
            await call(state.aset, key, 10, retention=harness.retention)
        entry = await call(state.aget_entry, "set")
        assert entry is not None
        await harness.let_pass(harness.retention)
        with pytest.raises(VersionConflictError) as conflict:
            await call(state.aset, "set", 11, if_version=entry.version)
        assert (conflict.value.expected, conflict.value.actual) == (entry.version, 0)
        await call(state.aset, "set", 12, if_version=0)
        assert await call(state.aupdate, "update", lambda before: before + 1, default=0) == 1
        assert await call(state.aadvance, "advance", 1) is True
        assert await call(state.aget_many, ["set", "update", "advance"]) == {"set": 12, "update": 1, "advance": 1}
        later = await call(state.aget_entry, "set")
        assert later is not None
        assert later.version > entry.version

    async def test_default_retention(self, harness: Harness) -> None:
        """Keep a value for 30 days where nothing is said, computed anew at each write."""
        call, state = harness.call, harness.task()
        if harness.tick >= timedelta(seconds=1):
            pytest.skip("the backend's time cannot be moved by days")
        await call(state.aset, "key", 1)
        await call(state.aset, "overwritten", 1, retention=timedelta(days=1))
        await harness.let_pass(timedelta(hours=1))
        await call(state.aset, "overwritten", 2)
        await harness.let_pass(timedelta(days=30, hours=-1) - harness.tick)
        assert await call(state.aget, "key") == 1
        await harness.let_pass(harness.tick)
        assert await call(state.aget_many, ["key", "overwritten"]) == {"overwritten": 2}
        await harness.let_pass(timedelta(hours=1))
        assert await call(state.aget_many, ["key", "overwritten"]) == {}

    async def test_default_is_computed_at_the_write(self, harness: Harness) -> None:
        """Leave what is written alone when the default changes."""
        call, scope = harness.call, TaskScope("dag", "run", "task")
        days = harness.retention / timedelta(days=1)
        async with harness.open_store(default_retention_days=days) as store:
            await call(store.task_state(scope).aset, "short", 1)
        async with harness.open_store(default_retention_days=0) as store:
            state = store.task_state(scope)
            await call(state.aset, "forever", 1)
            await harness.let_pass(harness.retention - harness.tick)
            assert await call(state.aget_many, ["short", "forever"]) == {"short": 1, "forever": 1}
            await harness.let_pass(harness.tick)
            assert await call(state.aget_many, ["short", "forever"]) == {"forever": 1}

    async def test_never_expire(self, harness: Harness) -> None:
        """Keep a value for good with `NEVER_EXPIRE`, compared by equality."""
        call, state = harness.call, harness.task()
        copy = pickle.loads(pickle.dumps(NEVER_EXPIRE))  # noqa: S301 - its own pickle
        await call(state.aset, "key", 1, retention=harness.retention)
        await call(state.aset, "key", 2, retention=NEVER_EXPIRE)
        await call(state.aset, "copy", 2, retention=copy)
        await call(state.aset, "max", 2, retention=timedelta.max)
        if harness.has(Capability.ENTRIES):
            entry = await call(state.aget_entry, "key")
            assert entry is not None
            assert entry.expires_at is None
        await harness.let_pass(harness.retention if harness.tick >= timedelta(seconds=1) else timedelta(days=100_000))
        assert await call(state.aget_many, ["key", "copy", "max"]) == {"key": 2, "copy": 2, "max": 2}

    async def test_asset_state_does_not_expire(self, harness: Harness) -> None:
        """Keep asset state until it is deleted."""
        call, state = harness.call, harness.asset()
        await call(state.aset, "watermark", "2026-11-20")
        await harness.let_pass(harness.retention if harness.tick >= timedelta(seconds=1) else timedelta(days=100_000))
        assert await call(state.aget, "watermark") == "2026-11-20"
        bare: Any = state
        with pytest.raises(TypeError, match="retention"):
            await call(bare.aset, "watermark", "2026-11-21", retention=harness.retention)

    async def test_refused_retentions(self, harness: Harness) -> None:
        """Refuse what is no retention, and keep the old value."""
        call, state = harness.call, harness.task()
        await call(state.aset, "key", 1)
        kinds: list[Any] = [1, 0, True, 1.5, "1 day", harness.now]
        lengths: list[Any] = [timedelta(0), -harness.tick, timedelta.min, timedelta(days=3_000_000)]
        lengths.append(timedelta.max - timedelta(microseconds=1))
        wrong = [(each, TypeError) for each in kinds] + [(each, ValueError) for each in lengths]
        for retention, error in wrong:
            with pytest.raises(error, match="retention"):
                await call(state.aset, "key", 2, retention=retention)
            with pytest.raises(error, match="retention"):
                await call(state.aset_many, {"key": 2}, retention=retention)
            if harness.has(VERSIONS):
                with pytest.raises(error, match="retention"):
                    await call(state.aupdate, "key", lambda _: 2, retention=retention)
                with pytest.raises(error, match="retention"):
                    await call(state.aadvance, "key", 2, retention=retention)
        assert await call(state.aget, "key") == 1

    @requires(VERSIONS)
    async def test_every_write_takes_a_retention(self, harness: Harness) -> None:
        """Count the retention from each write, whichever operation makes it."""
        call, state = harness.call, harness.task()
        keep = harness.retention
        await call(state.aset_many, {"many": 1, "more": 1}, retention=keep)
        await call(state.aupdate, "update", lambda _: 1, retention=keep)
        await call(state.aadvance, "advance", 1, retention=keep)
        keys = ["many", "more", "update", "advance"]
        for key in keys:
            entry = await call(state.aget_entry, key)
            assert entry is not None
            assert entry.expires_at == harness.now + keep
        await harness.let_pass(keep)
        assert await call(state.aget_many, keys) == {}
