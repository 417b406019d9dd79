"""Contract of fleets: who runs which watcher, under which lease, and what people ask."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from uuid import uuid4

import anyio
import pytest

from ..abc import Capability
from ..changes import Change, Clear, Commit, Delete, NewEvent, Put
from ..errors import AssetNotFoundError, LeaseLostError, StoreError, WatcherNotFoundError
from ..fleet import Claim, Fleet, Member
from ..records import Lease, WatcherOrder, WatcherRecord, WatcherState
from ..scopes import Asset, AssetScope
from ..watchers import ClaimedWatcher
from .harness import ConformanceBase, Harness, awaited, requires

__all__ = ["LeaseConformance"]

LEASE = timedelta(seconds=10)
ORDERS, OTHER = Asset("orders"), Asset("other")


class _Scene:
    """A backend with watchers, and members that can run all of them."""

    def __init__(self, harness: Harness, count: int) -> None:
        self.harness = harness
        self.fleet: Fleet = harness.backend.fleet
        self.names = [f"watcher {number}" for number in range(count)]
        self.ids: list[int] = []
        self.scope = AssetScope(name="orders")

    async def declare(self) -> _Scene:
        self.scope = await self.harness.call(self.harness.backend.aregister_asset, ORDERS)
        found = await self.fleet.adeclare([(self.scope, name) for name in self.names])
        by_name = {each.name: each.watcher_id for each in found}
        self.ids = [by_name[name] for name in self.names]
        return self

    async def join(self, owner: str = "one", capacity: int = 10, ids: Collection[int] | None = None) -> Member:
        watchers = self.ids if ids is None else ids
        return await self.fleet.ajoin(owner, token=uuid4().hex, capacity=capacity, watchers=watchers, lease=LEASE)

    async def beat(self, member: Member) -> bool:
        return await self.fleet.abeat(member, LEASE, 10.0)

    async def orders(self, member: Member) -> Mapping[int, WatcherOrder]:
        return (await self.fleet.asurvey(member)).orders

    async def claim(self, member: Member, *numbers: int) -> list[Lease]:
        claims = await self.fleet.aclaim(member, "one", [self.ids[number] for number in numbers])
        assert claims is not None
        return [self.lease(each) for each in claims]

    def lease(self, claim: Claim) -> Lease:
        return Lease(claim.watcher_id, claim.fence, self.scope, self.names[self.ids.index(claim.watcher_id)])

    async def free(self, member: Member) -> set[int]:
        return {self.ids.index(each) for each in (await self.fleet.asurvey(member)).free}

    async def emit(self, lease: Lease) -> None:
        await self.harness.call(self.harness.backend.acommit, Commit((), (NewEvent("1"),), lease))

    async def order(self, number: int, order: WatcherOrder) -> WatcherRecord:
        return await self.harness.call(self.harness.store.aorder_watcher, ORDERS, self.names[number], order)

    async def states(self) -> list[WatcherState]:
        return [each.state for each in await self.harness.call(self.harness.store.alist_watchers)]


class LeaseConformance(ConformanceBase):
    """Hold a backend to leases, claims and orders."""

    @awaited
    @requires(Capability.COMMIT)
    async def test_declared_watchers_wait_until_a_member_claims_them(self, harness: Harness) -> None:
        """List watchers from their declaration on; claim each once, with a growing number."""
        scene = await _Scene(harness, 3).declare()
        assert await scene.states() == [WatcherState.WAITING] * 3
        again = await scene.fleet.adeclare([(scene.scope, name) for name in scene.names])
        assert sorted(each.watcher_id for each in again) == sorted(scene.ids)
        one, two = await scene.join("one"), await scene.join("two")
        assert one.declares == two.declares
        assert await scene.free(one) == {0, 1, 2}
        leases = await scene.claim(one, 0, 1)
        assert [each.name for each in sorted(leases, key=lambda each: each.name)] == scene.names[:2]
        assert await scene.claim(two, 0, 1, 2) != []
        assert await scene.free(two) == set()
        records = await harness.call(harness.store.alist_watchers)
        assert [each.state for each in records] == [WatcherState.RUNNING] * 3
        assert records[0].claimed_at == harness.now
        assert records[0].lease_age == timedelta(0)
        members = await harness.call(harness.store.alist_triggerers)
        assert [(each.owner, each.running, each.draining) for each in members] == [("one", 2, False), ("two", 1, False)]
        await scene.emit(leases[0])

    @awaited
    @requires(Capability.COMMIT)
    async def test_joining_again_with_the_same_token_gives_the_same_member(self, harness: Harness) -> None:
        """Add nobody where the answer to a joining was lost."""
        scene = await _Scene(harness, 1).declare()
        lease = timedelta(seconds=10)
        one = await scene.fleet.ajoin("one", token="t", capacity=1, watchers=scene.ids, lease=lease)  # noqa: S106
        assert await scene.fleet.ajoin("one", token="t", capacity=1, watchers=scene.ids, lease=lease) == one  # noqa: S106
        assert len(await harness.call(harness.store.alist_triggerers)) == 1

    @awaited
    @requires(Capability.COMMIT)
    async def test_what_a_member_adds_its_equals_can_run_too(self, harness: Harness) -> None:
        """Keep what was added for as long as somebody declares the same, whoever joined first."""
        scene = await _Scene(harness, 2).declare()
        one = await scene.join("one", ids=scene.ids[:1])
        two = await scene.join("two", ids=scene.ids[:1])
        await scene.fleet.aextend(two, [scene.ids[1]])
        assert await scene.free(one) == await scene.free(two) == {0, 1}
        await scene.fleet.aleave(two)
        three = await scene.join("three", ids=scene.ids[:1])
        await scene.fleet.aleave(one)
        assert await scene.free(three) == {0, 1}

    @awaited
    @requires(Capability.COMMIT)
    async def test_a_claim_that_is_repeated_gives_the_same(self, harness: Harness) -> None:
        """Give what the member has, where the answer to its claim was lost."""
        scene = await _Scene(harness, 2).declare()
        one = await scene.join()
        first = await scene.claim(one, 0, 1)
        assert sorted(await scene.claim(one, 0, 1), key=lambda each: each.name) == sorted(
            first, key=lambda each: each.name
        )

    @awaited
    @requires(Capability.COMMIT)
    async def test_a_lease_holds_until_its_end_and_not_a_moment_longer(self, harness: Harness) -> None:
        """Refuse every write under a lease that has run out, whether or not somebody has taken the watcher over."""
        scene = await _Scene(harness, 1).declare()
        one = await scene.join()
        (lease,) = await scene.claim(one, 0)
        await harness.let_pass(LEASE - harness.tick)
        await scene.emit(lease)
        assert await scene.beat(one)
        await harness.let_pass(LEASE - harness.tick)
        await scene.emit(lease)
        await harness.let_pass(harness.tick)
        state = ClaimedWatcher(harness.store.core, ORDERS, lease).asset_state
        changes: list[Change] = [Put(scene.scope, "key", "1"), Delete(scene.scope, "key"), Clear(scene.scope)]
        for commit in [Commit((change,), (), lease) for change in changes]:
            with pytest.raises(LeaseLostError, match="has run out"):
                await harness.backend.acommit(commit)
        with pytest.raises(LeaseLostError, match="has run out"):
            await scene.emit(lease)
        with pytest.raises(LeaseLostError, match="has run out"):
            await state.aset("key", 1)
        assert not await scene.beat(one)
        assert await scene.fleet.aclaim(one, "one", scene.ids) is None
        assert await harness.asset().aget("key") is None
        assert len(await harness.store.events().alist()) == 2

    @awaited
    @requires(Capability.COMMIT)
    async def test_what_a_member_held_that_is_gone_is_free(self, harness: Harness) -> None:
        """Free nothing before the lease has run out, but where the member is known to be gone; then all at once."""
        scene = await _Scene(harness, 4).declare()
        one, two, three = await scene.join("one"), await scene.join("two"), await scene.join("three")
        held = await scene.claim(one, 0, 1)
        await scene.claim(three, 3)
        assert await scene.fleet.abury() == 0
        assert await scene.free(two) == {2}
        await harness.let_pass(LEASE - harness.tick)
        assert await scene.beat(two)
        assert await scene.fleet.abury() == 0
        assert await scene.fleet.abury([three.id]) == 1
        assert await scene.free(two) == {2, 3}
        await harness.let_pass(harness.tick)
        survey = await scene.fleet.asurvey(two)
        assert [(each.owner, bool(each.remaining)) for each in survey.peers] == [("one", False), ("two", True)]
        assert await scene.fleet.abury() == 2
        assert await scene.free(two) == {0, 1, 2, 3}
        taken = await scene.claim(two, 0)
        assert taken[0].fence > next(each.fence for each in held if each.name == taken[0].name)
        for lease in held:
            with pytest.raises(LeaseLostError, match="claimed by another process"):
                await scene.emit(lease)
        await scene.emit(taken[0])
        assert [each.owner for each in await harness.store.alist_triggerers()] == ["two"]

    @awaited
    @requires(Capability.COMMIT)
    async def test_what_is_given_back_is_left_in_its_state(self, harness: Harness) -> None:
        """Free what waits, and leave at rest what is done; heed no lease after that, and nobody who has it not."""
        scene = await _Scene(harness, 3).declare()
        one, two = await scene.join("one"), await scene.join("two")
        leases = await scene.claim(one, 0, 1, 2)
        await scene.fleet.arelease(two, {scene.ids[0]: WatcherState.WAITING})
        assert await scene.free(two) == set()
        await scene.fleet.arelease(one, {scene.ids[0]: WatcherState.WAITING, scene.ids[1]: WatcherState.DONE})
        assert await scene.states() == [WatcherState.WAITING, WatcherState.DONE, WatcherState.RUNNING]
        assert await scene.free(two) == {0}
        standing = await scene.fleet.astanding(two)
        assert (standing.declared, standing.unfinished) == (3, 2)
        for lease in leases:
            if lease.watcher_id != scene.ids[2]:
                with pytest.raises(LeaseLostError):
                    await scene.emit(lease)
        await scene.fleet.abegin_anew(scene.ids)
        assert await scene.free(two) == {0, 1}
        await scene.fleet.adrain(one)
        assert [each.draining for each in (await scene.fleet.asurvey(two)).peers] == [True, False]
        await scene.fleet.aleave(one)
        assert await scene.free(two) == {0, 1, 2}
        assert [each.id for each in (await scene.fleet.asurvey(two)).peers] == [two.id]
        await scene.fleet.aleave(one)

    @awaited
    @requires(Capability.COMMIT)
    async def test_each_watcher_is_won_by_one_member(self, harness: Harness) -> None:
        """Have members that claim the same at the same time share it without overlap."""
        scene = await _Scene(harness, 20).declare()
        members = [await scene.join(f"member {number}") for number in range(4)]
        won: list[int] = []

        async def claim(member: Member) -> None:
            won.extend(each.watcher_id for each in await scene.claim(member, *range(20)))

        async with anyio.create_task_group() as tasks:
            for member in members:
                tasks.start_soon(claim, member)
        assert sorted(won) == sorted(scene.ids)

    @awaited
    @requires(Capability.COMMIT)
    async def test_loads_are_counted_by_what_members_declare(self, harness: Harness) -> None:
        """Count what somebody should run, by the sets that members declare; what is at rest counts nowhere."""
        scene = await _Scene(harness, 4).declare()
        one, two = await scene.join("one", ids=scene.ids[:3]), await scene.join("two", ids=scene.ids[1:])
        assert one.declares != two.declares
        await scene.claim(one, 0)
        await scene.claim(two, 3)
        await scene.fleet.arelease(two, {scene.ids[3]: WatcherState.DONE})
        load = await scene.fleet.aload({one.declares, two.declares})
        assert load.runnable == {one.declares: frozenset(scene.ids[:3]), two.declares: frozenset(scene.ids[1:3])}
        assert load.held == {one.id: 1}
        alone = (await scene.fleet.aload({one.declares})).runnable[one.declares]
        assert alone in (3, frozenset(scene.ids[:3]))
        assert await scene.free(one) == {1, 2}
        more = await scene.fleet.adeclare([(scene.scope, "late")])
        await scene.fleet.aextend(one, [each.watcher_id for each in more])
        assert {each.watcher_id for each in more} <= set((await scene.fleet.asurvey(one)).free)
        assert not {each.watcher_id for each in more} & set((await scene.fleet.asurvey(two)).free)

    @requires(Capability.COMMIT)
    async def test_orders_for_watchers_that_nobody_runs(self, harness: Harness) -> None:
        """Do at once what is asked of a watcher that nobody runs; refuse what cannot be done, and say what can."""
        scene = await _Scene(harness, 1).declare()
        for order, state in [
            (WatcherOrder.RESUME, WatcherState.WAITING),
            (WatcherOrder.PAUSE, WatcherState.PAUSED),
            (WatcherOrder.PAUSE, WatcherState.PAUSED),
            (WatcherOrder.RESUME, WatcherState.WAITING),
            (WatcherOrder.KILL, WatcherState.KILLED),
            (WatcherOrder.KILL, WatcherState.KILLED),
        ]:
            record = await scene.order(0, order)
            assert (record.state, record.asked) == (state, None)
        for order in (WatcherOrder.PAUSE, WatcherOrder.RESUME):
            with pytest.raises(StoreError, match=r"is killed, and cannot be .* a restart runs it again"):
                await scene.order(0, order)
        assert (await scene.order(0, WatcherOrder.RESTART)).state is WatcherState.WAITING
        with pytest.raises(WatcherNotFoundError, match="'nobody'"):
            await harness.call(harness.store.aorder_watcher, ORDERS, "nobody", WatcherOrder.PAUSE)
        with pytest.raises(AssetNotFoundError):
            await harness.call(harness.store.aorder_watcher, OTHER, "nobody", WatcherOrder.PAUSE)

    @awaited
    @requires(Capability.COMMIT)
    async def test_orders_for_watchers_that_a_member_runs(self, harness: Harness) -> None:
        """Ask the member that runs a watcher; it is done by giving the watcher back."""
        scene = await _Scene(harness, 3).declare()
        one = await scene.join()
        leases = sorted(await scene.claim(one, 0, 1, 2), key=lambda each: each.name)
        assert await scene.orders(one) == {}
        record = await scene.order(0, WatcherOrder.PAUSE)
        assert (record.state, record.asked) == (WatcherState.RUNNING, WatcherOrder.PAUSE)
        await scene.order(1, WatcherOrder.KILL)
        await scene.order(2, WatcherOrder.RESTART)
        asked = {scene.ids[0]: WatcherOrder.PAUSE, scene.ids[1]: WatcherOrder.KILL, scene.ids[2]: WatcherOrder.RESTART}
        assert await scene.orders(one) == asked
        with pytest.raises(StoreError, match="just being killed"):
            await scene.order(1, WatcherOrder.RESTART)
        await scene.fleet.arestarted(leases[2])
        await scene.emit(leases[2])
        await scene.fleet.arelease(one, {scene.ids[0]: WatcherState.PAUSED, scene.ids[1]: WatcherState.KILLED})
        assert await scene.states() == [WatcherState.PAUSED, WatcherState.KILLED, WatcherState.RUNNING]
        assert await scene.orders(one) == {}

    @awaited
    @requires(Capability.COMMIT)
    async def test_orders_that_are_overtaken(self, harness: Harness) -> None:
        """Take a pause back that is not done yet; keep what was asked of a member that ends before it does it.

        A kill is done by whoever has the watcher next, for `on_kill()` is to be called.
        """
        scene = await _Scene(harness, 4).declare()
        one = await scene.join()
        await scene.claim(one, 0, 1, 2, 3)
        await scene.order(0, WatcherOrder.PAUSE)
        assert (await scene.order(0, WatcherOrder.RESUME)).asked is None
        await scene.fleet.arelease(one, {scene.ids[0]: WatcherState.PAUSED})  # it had begun to
        await scene.order(1, WatcherOrder.PAUSE)
        await scene.order(2, WatcherOrder.KILL)
        await scene.order(3, WatcherOrder.RESTART)
        await scene.fleet.aleave(one)
        rest = [WatcherState.WAITING, WatcherState.PAUSED, WatcherState.WAITING, WatcherState.WAITING]
        assert await scene.states() == rest
        two = await scene.join("two")
        await scene.claim(two, 2)
        assert await scene.orders(two) == {scene.ids[2]: WatcherOrder.KILL}
        await scene.fleet.arelease(two, {scene.ids[2]: WatcherState.KILLED})
        assert (await scene.states())[2] is WatcherState.KILLED

    @awaited
    @requires(Capability.COMMIT)
    async def test_orders_that_come_while_a_watcher_is_given_back(self, harness: Harness) -> None:
        """Let a restart win over how the watcher ends, and keep a kill for whoever has it next."""
        scene = await _Scene(harness, 3).declare()
        one = await scene.join()
        await scene.claim(one, 0, 1, 2)
        await scene.order(0, WatcherOrder.RESTART)
        await scene.order(1, WatcherOrder.RESTART)
        await scene.order(2, WatcherOrder.KILL)
        ends = [WatcherState.DONE, WatcherState.PAUSED, WatcherState.PAUSED]
        await scene.fleet.arelease(one, dict(zip(scene.ids, ends, strict=True)))
        assert await scene.states() == [WatcherState.WAITING] * 3
        await scene.claim(one, 0, 1, 2)
        assert await scene.orders(one) == {scene.ids[2]: WatcherOrder.KILL}

    @awaited
    @requires(Capability.COMMIT)
    async def test_a_claim_by_hand_takes_a_watcher_from_its_member(self, harness: Harness) -> None:
        """Let whoever claims by hand have a watcher until it is restarted; members leave it alone."""
        scene = await _Scene(harness, 1).declare()
        one = await scene.join()
        (lease,) = await scene.claim(one, 0)
        by_hand = await harness.call(harness.store.aclaim_watcher, ORDERS, scene.names[0], owner="me")
        with pytest.raises(LeaseLostError):
            await scene.emit(lease)
        await harness.let_pass(LEASE)
        await scene.emit(by_hand.lease)
        assert await scene.fleet.abury() == 0
        two = await scene.join("two")
        assert await scene.free(two) == set()
        assert (await scene.order(0, WatcherOrder.RESTART)).state is WatcherState.WAITING
        with pytest.raises(LeaseLostError):
            await scene.emit(by_hand.lease)
        assert await scene.free(two) == {0}

    @awaited
    @requires(Capability.COMMIT)
    async def test_events_are_counted_beside_the_watcher(self, harness: Harness) -> None:
        """Tell the latest event, how many there were in the last minute, and since when there was no progress."""
        scene = await _Scene(harness, 1).declare()
        one = await scene.join()
        (lease,) = await scene.claim(one, 0)
        for _ in range(6):
            await scene.emit(lease)
        (record,) = await harness.store.alist_watchers()
        assert record.events_per_minute == 6
        assert record.last_event_at == harness.now
        assert record.last_event_id == (await harness.store.events().alist())[-1].id
        await harness.let_pass(LEASE / 2)
        (record,) = await harness.store.alist_watchers()
        assert record.without_progress == LEASE / 2
        await ClaimedWatcher(harness.store.core, ORDERS, lease).asset_state.aset("key", 1)
        (record,) = await harness.store.alist_watchers()
        assert record.without_progress == timedelta(0)
        await harness.let_pass(timedelta(minutes=2))
        (record,) = await harness.store.alist_watchers()
        assert record.events_per_minute == 0
