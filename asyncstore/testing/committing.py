"""Contract of watchers: an event and its checkpoint are one commit, which stands on a lease."""

from __future__ import annotations

import math
from contextlib import aclosing
from typing import Any, cast

import anyio
import pytest

from ..abc import Capability
from ..changes import Change, Clear, Commit, Delete, NewEvent, Put
from ..errors import AssetInactiveError, AssetNotFoundError, LeaseLostError, VersionConflictError
from ..records import Event, Lease, WatcherState
from ..scopes import Asset, AssetScope
from ..watchers import Checkpoint, ClaimedWatcher
from .harness import TASK, ConformanceBase, Harness, awaited, requires

__all__ = ["CommitConformance"]

ORDERS = Asset("orders", uri="s3://warehouse/orders/")
OTHER = Asset("other")
#: Seconds after which an event counts as missed.
PATIENCE = 10


async def _claim(harness: Harness, asset: Asset = ORDERS, name: str = "watcher") -> ClaimedWatcher:
    return await harness.call(harness.store.aclaim_watcher, asset, name, owner="me")


async def _emit(
    harness: Harness,
    watcher: ClaimedWatcher,
    payload: Any = None,
    key: str | None = None,
    checkpoint: Checkpoint | None = None,
) -> tuple[Event, bool]:
    commit = await harness.call(watcher.prepare, payload, key, checkpoint)
    return await harness.call(watcher.acommit, commit)


async def _payloads(harness: Harness, asset: Asset | None = ORDERS, after: int = 0) -> list[Any]:
    return [event.payload for event in await harness.call(harness.store.events(asset, after=after).alist)]


class CommitConformance(ConformanceBase):
    """Hold a backend to events, checkpoints and leases."""

    @requires(Capability.COMMIT)
    async def test_event_with_checkpoint(self, harness: Harness) -> None:
        """Record an event and write its checkpoint."""
        call = harness.call
        watcher = await _claim(harness)
        event, duplicate = await _emit(harness, watcher, {"é": [1]}, "key", {"watermark": 42})
        assert not duplicate
        assert (event.asset, event.watcher, event.payload, event.key) == ("orders", "watcher", {"é": [1]}, "key")
        assert event.id > 0
        assert abs(event.created_at - harness.now) < harness.tick
        assert await call(harness.store.events(ORDERS).alist) == [event]
        assert await call(watcher.asset_state.aget, "watermark") == 42
        assert await call(harness.store.asset_state[ORDERS].aget, "watermark") == 42
        if harness.has(Capability.ENTRIES):
            entry = await call(watcher.asset_state.aget_entry, "watermark")
            assert entry is not None
            assert entry.updated_by == "watcher:orders/watcher"

    @requires(Capability.COMMIT)
    async def test_checkpoint_of_several_assets(self, harness: Harness) -> None:
        """Write a checkpoint that names its assets, in the same commit."""
        call, state = harness.call, harness.store.asset_state
        watcher = await _claim(harness)
        await _emit(harness, watcher, 1, None, {ORDERS: {"a": 1, "b": 2}, OTHER: {"a": 3}})
        assert await call(state[ORDERS].aget_many, ["a", "b"]) == {"a": 1, "b": 2}
        assert await call(state[OTHER].aget_many, ["a", "b"]) == {"a": 3}

    @requires(Capability.COMMIT)
    async def test_refused_events(self, harness: Harness) -> None:
        """Refuse a payload, a key or a checkpoint that is not valid; record and write nothing."""
        watcher = await _claim(harness)
        wrong: list[tuple[Any, Any, Any, type[Exception]]] = [
            *(
                (object(), None, None, TypeError),
                (math.nan, None, None, ValueError),
                ("\ud800", "", {}, ValueError),
            ),
            *((1, "", None, ValueError), (1, "\0", None, ValueError), (1, 5, None, TypeError)),
            *((1, None, {"good": 1, "bad": None}, ValueError), (1, None, {"good": 1, "bad": {1}}, TypeError)),
            *((1, None, {"": 1}, ValueError), (1, None, {1: 1}, TypeError), (1, None, [("a", 1)], TypeError)),
            *((1, None, {ORDERS: {"a": 1}, "b": 2}, TypeError), (1, None, {ORDERS: 1}, TypeError)),
        ]
        for payload, key, checkpoint, error in wrong:
            with pytest.raises(error):
                await _emit(harness, watcher, payload, key, checkpoint)
        assert await _payloads(harness) == []
        assert await harness.call(watcher.asset_state.aget_many, ["good", "bad", "a", "b"]) == {}

    @requires(Capability.COMMIT)
    async def test_events_are_in_the_order_of_their_commits(self, harness: Harness) -> None:
        """Number the events of all watchers in the order in which they were committed."""
        one, two = await _claim(harness, name="one"), await _claim(harness, name="two")
        elsewhere = await _claim(harness, OTHER)
        events = [(await _emit(harness, each, number))[0] for number, each in enumerate((one, two, elsewhere) * 3)]
        ids = [event.id for event in events]
        assert ids == sorted(set(ids))
        assert await _payloads(harness) == [0, 1, 3, 4, 6, 7]
        assert await _payloads(harness, OTHER) == [2, 5, 8]
        assert await _payloads(harness, None) == list(range(9))
        assert await _payloads(harness, ORDERS, after=ids[3]) == [4, 6, 7]
        assert await _payloads(harness, ORDERS, after=ids[2]) == [3, 4, 6, 7]
        assert await _payloads(harness, ORDERS, after=ids[8]) == []
        first = await harness.call(harness.store.events(ORDERS).alist, limit=2)
        assert [event.payload for event in first] == [0, 1]
        assert await harness.call(harness.store.events(ORDERS).alist, 0) == []
        scope = AssetScope(name="orders")
        assert [each.id for each in await harness.call(harness.store.events(scope).alist)] == [
            event.id for event in events if event.asset == "orders"
        ]

    @requires(Capability.COMMIT)
    async def test_event_keys(self, harness: Harness) -> None:
        """Record the second event of a watcher with the same key as the first, and commit its checkpoint."""
        watcher, other = await _claim(harness), await _claim(harness, name="other")
        first, _ = await _emit(harness, watcher, "first", "key", {"a": 1})
        second, duplicate = await _emit(harness, watcher, "second", "key", {"a": 2, "b": 2})
        assert duplicate
        assert second.id == first.id
        assert await _payloads(harness) == ["first"]
        assert await harness.call(watcher.asset_state.aget_many, ["a", "b"]) == {"a": 2, "b": 2}
        assert not (await _emit(harness, other, "of the other", "key"))[1]
        assert not (await _emit(harness, watcher, "another", "Key"))[1]
        again = await _claim(harness)
        assert (await _emit(harness, again, "after a claim", "key"))[1]
        for _ in range(2):
            assert not (await _emit(harness, again, "without"))[1]
        assert await _payloads(harness) == ["first", "of the other", "another", "without", "without"]

    @requires(Capability.COMMIT)
    async def test_readers_of_events_share_nothing(self, harness: Harness) -> None:
        """Give each reader of an event a payload of its own."""
        await _emit(harness, await _claim(harness), {"list": [1]})
        (payload,) = await _payloads(harness)
        payload["list"].append(2)
        assert await _payloads(harness) == [{"list": [1]}]

    @requires(Capability.COMMIT)
    async def test_backend_commits_events_and_changes_together(self, harness: Harness) -> None:
        """Record no event, and use up no key, where a change is refused."""
        call, backend = harness.call, harness.backend
        scope = await harness.asset_scope()
        await call(backend.aset, scope, "key", "1")
        lease = await call(backend.aclaim_watcher, scope, "watcher", owner="me")
        events = (NewEvent('"a"', "event key"), NewEvent("null"), NewEvent("[1]"))
        wrong = Commit((Put(scope, "new", "1"), Put(scope, "key", "2", if_version=99_999)), events, lease)
        with pytest.raises(VersionConflictError):
            await call(backend.acommit, wrong)
        assert await call(backend.alist_events, scope) == []
        assert await call(backend.aget_many, scope, ["key", "new"]) == {"key": "1"}
        result = await call(backend.acommit, Commit((Put(scope, "key", "2"),), events, lease))
        assert [event.duplicate for event in result.events] == [False] * 3
        listed = await call(backend.alist_events, scope)
        assert [(event.id, event.payload) for event in listed] == [
            (recorded.id, payload) for recorded, payload in zip(result.events, ("a", None, [1]), strict=True)
        ]
        assert {event.created_at for event in listed} == {result.committed_at}
        again = await call(backend.acommit, Commit((), (NewEvent("1", "event key"), NewEvent("2")), lease))
        assert [event.duplicate for event in again.events] == [True, False]
        assert again.events[0].id == result.events[0].id
        assert await call(backend.alist_events, scope, after=listed[1].id, limit=1) == [listed[2]]
        with pytest.raises(ValueError, match="lease"):
            Commit((), events)

    @requires(Capability.COMMIT)
    async def test_a_lost_lease_writes_nothing(self, harness: Harness) -> None:
        """Refuse every write of a watcher that somebody claimed since."""
        call, backend = harness.call, harness.backend
        old = await _claim(harness)
        await _emit(harness, old, "old", "old key", {"watermark": 1})
        new = await _claim(harness)
        assert new.lease.fence > old.lease.fence
        assert new.lease.watcher_id == old.lease.watcher_id
        for key in ("old key", "new key", None):
            with pytest.raises(LeaseLostError, match="watcher"):
                await _emit(harness, old, "lost", key, {"watermark": 2, "more": 2})
        scope = old.lease.asset
        changes: list[Change] = [Put(scope, "watermark", "2"), Delete(scope, "watermark"), Clear(scope)]
        for change in (*changes, Put(TASK, "key", "1")):
            with pytest.raises(LeaseLostError):
                await call(backend.acommit, Commit((change,), lease=old.lease))
        for state in (old.asset_state, old.asset_state[ORDERS], old.asset_state[OTHER]):
            with pytest.raises(LeaseLostError):
                await call(state.aset, "watermark", 2)
            with pytest.raises(LeaseLostError):
                await call(state.aset_many, {"watermark": 2})
            with pytest.raises(LeaseLostError):
                await call(state.adelete, "watermark")
            with pytest.raises(LeaseLostError):
                await call(state.aclear)
        if harness.has(Capability.ENTRIES):
            with pytest.raises(LeaseLostError):
                await call(old.asset_state.aupdate, "watermark", lambda before: before + 1)
            with pytest.raises(LeaseLostError):
                await call(old.asset_state.aadvance, "watermark", 2)
        assert await _payloads(harness) == ["old"]
        assert await call(backend.aget, TASK, "key") is None
        assert await call(new.asset_state.aget_many, ["watermark", "more"]) == {"watermark": 1}
        assert not (await _emit(harness, new, "new", "new key", {"watermark": 2}))[1]
        assert await _payloads(harness) == ["old", "new"]

    @requires(Capability.COMMIT)
    async def test_claims(self, harness: Harness) -> None:
        """Raise the fencing number with every claim of a watcher, and of no other."""
        backend, scope = harness.backend, await harness.asset_scope()
        elsewhere = await harness.asset_scope("other")
        leases: list[Lease] = []
        for asset, name in ((scope, "a"), (scope, "b"), (elsewhere, "a"), (scope, "a"), (scope, "A"), (scope, "a")):
            leases.append(await harness.call(backend.aclaim_watcher, asset, name, owner="me"))
        assert len({lease.watcher_id for lease in leases}) == 4
        assert leases[0].fence < leases[3].fence < leases[5].fence
        for lease in (leases[1], leases[2], leases[4], leases[5]):
            await harness.call(backend.acommit, Commit((), (NewEvent("1"),), lease))
        for lease in (leases[0], leases[3]):
            with pytest.raises(LeaseLostError):
                await harness.call(backend.acommit, Commit((), (NewEvent("1"),), lease))
        await self._unknown_watcher(harness, leases[5])

    async def _unknown_watcher(self, harness: Harness, lease: Lease) -> None:
        if harness.has(Capability.ASSETS):
            await harness.call(harness.store.adelete_asset, lease.asset)
            with pytest.raises(AssetNotFoundError):
                await harness.call(harness.backend.acommit, Commit((), (NewEvent("1"),), lease))
            with pytest.raises(AssetNotFoundError):
                await harness.call(harness.backend.aclaim_watcher, lease.asset, "a", owner="me")
            assert [event.asset for event in await harness.call(harness.store.events().alist)] == ["other"]
            assert [each.asset for each in await harness.call(harness.store.alist_watchers)] == ["other"]
            assert await _payloads(harness, Asset("orders")) == []

    @requires(Capability.COMMIT | Capability.ASSETS)
    async def test_a_deactivated_asset_takes_no_events(self, harness: Harness) -> None:
        """Refuse the events and claims of an asset while it rests."""
        store = harness.store
        watcher = await _claim(harness)
        await _emit(harness, watcher, 1)
        await harness.call(store.adeactivate, ORDERS)
        with pytest.raises(AssetInactiveError):
            await _emit(harness, watcher, 2)
        with pytest.raises(AssetInactiveError):
            await _claim(harness)
        await harness.call(store.aactivate, ORDERS)
        await _emit(harness, watcher, 3, None, {"watermark": 3})
        assert await _payloads(harness) == [1, 3]

    @requires(Capability.COMMIT)
    async def test_reports(self, harness: Harness) -> None:
        """Keep what a watcher is doing while its lease holds."""
        call, store = harness.call, harness.store
        old = await _claim(harness, name="b")
        await _claim(harness, OTHER, "a")
        await call(old.areport, WatcherState.BACKING_OFF, error="Traceback: é", restarts=1)
        await harness.let_pass(harness.tick * 5)
        await call(old.areport, WatcherState.RUNNING, restarts=1)
        record, other = await call(store.alist_watchers)
        assert (record.asset, record.name, record.owner, record.fence) == ("orders", "b", "me", old.lease.fence)
        assert (record.state, record.restarts, record.last_error) == (WatcherState.RUNNING, 2, "Traceback: é")
        assert record.last_error_at is not None
        assert record.last_error_at < record.updated_at
        assert (other.asset, other.state, other.restarts, other.last_error) == ("other", WatcherState.RUNNING, 0, None)
        new = await _claim(harness, name="b")
        await call(old.areport, WatcherState.DONE, error="lost", restarts=1)
        record, _ = await call(store.alist_watchers)
        assert (record.fence, record.restarts, record.state) == (new.lease.fence, 0, WatcherState.RUNNING)
        assert record.last_error == "Traceback: é"
        await call(new.areport, WatcherState.DONE)
        assert (await call(store.alist_watchers))[0].state is WatcherState.DONE

    @awaited
    @requires(Capability.COMMIT)
    async def test_events_are_followed(self, harness: Harness) -> None:
        """Yield the events in the log, and then those that come, to a reader that waits."""
        watcher = await _claim(harness)
        for number in range(3):
            await _emit(harness, watcher, number)
        seen: list[Any] = []

        async def emit() -> None:
            for number in range(3, 6):
                await _emit(harness, watcher, number)

        log = cast("Any", harness.store.events(ORDERS).__aiter__())
        with anyio.fail_after(PATIENCE):
            async with aclosing(log) as events, anyio.create_task_group() as group:
                async for event in events:
                    seen.append(event.payload)
                    if event.payload == 2:
                        group.start_soon(emit)
                    if event.payload == 5:
                        break
        assert seen == list(range(6))

    @requires(Capability.COMMIT)
    async def test_commits_at_once(self, harness: Harness) -> None:
        """Lose no event and no checkpoint of watchers that commit at once."""
        watchers = [await _claim(harness, name=f"watcher {number}") for number in range(4)]

        async def emit(watcher: ClaimedWatcher) -> None:
            for number in range(5):
                await _emit(harness, watcher, [watcher.lease.name, number], str(number), {watcher.lease.name: number})

        async with anyio.create_task_group() as group:
            for watcher in watchers:
                group.start_soon(emit, watcher)
        payloads = await _payloads(harness)
        assert len(payloads) == 20
        for watcher in watchers:
            assert [number for name, number in payloads if name == watcher.lease.name] == list(range(5))
            assert await harness.call(watcher.asset_state.aget, watcher.lease.name) == 4
