"""Consumers of events in memory: the semantics of the metastore's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from itertools import takewhile
from typing import final

from ...clock import from_microseconds, to_microseconds
from ...consumers.abc import Deliveries
from ...consumers.deciding import CRASHED, consumer_not_found, delivery_lost, member_lost, start_text, tell_exhausted
from ...consumers.records import ConsumerRecord, Delivery, FailedEvent, Member, Start, Taking
from ...records import Event
from ...scopes import AssetScope
from ..watching import WatchHub, word_of_events
from .consumers import HeldConsumer, HeldDelivery
from .locking import Lock
from .tables import Tables

__all__ = ["MemoryDeliveries"]

_MICROSECOND = timedelta(microseconds=1)


@final
class MemoryDeliveries(Deliveries):
    """Hand out the events of the in-memory backend.

    :param tables: what it holds.
    :param lock: held around every look at that.
    :param hub: who waits for events.
    """

    def __init__(self, tables: Tables, lock: Lock, hub: WatchHub) -> None:
        self._tables = tables
        self._lock = lock
        self._hub = hub

    def _now(self) -> int:
        return self._tables.clock.microseconds()

    def _events(self, consumer: HeldConsumer, after: int, limit: int | None = None) -> list[Event]:
        return self._tables.events(AssetScope(consumer.asset_id), after, limit)

    def _held(self, member: Member) -> HeldConsumer:
        found = self._tables.consumers.get(member.consumer_id)
        if found is None:
            raise consumer_not_found(member.asset, member.name)
        return found

    def _find(self, asset: AssetScope, name: str) -> HeldConsumer | None:
        asset_id = self._tables.find(asset).registered.id
        every = self._tables.consumers.values()
        return next((each for each in every if (each.asset_id, each.name) == (asset_id, name)), None)

    def _named(self, asset: AssetScope, name: str) -> HeldConsumer:
        found = self._find(asset, name)
        if found is None:
            raise consumer_not_found(asset, name)
        return found

    def _before(self, asset_id: int, start: Start) -> int:
        if isinstance(start, int):
            return max(start - 1, 0)
        events = self._tables.events(AssetScope(asset_id), 0, None)
        if isinstance(start, datetime):
            to_microseconds(start)  # refuses one without a time zone
            found = next((each.id for each in events if each.created_at >= start), None)
            if found is not None:
                return found - 1
        return events[-1].id if events and start != "beginning" else 0

    async def ajoin(self, asset: AssetScope, name: str, *, start: Start, owner: str, lease: timedelta) -> Member:
        """Add a reader, and the consumer where it is new."""
        with self._lock:
            found = self._find(asset, name)
            scope = self._tables.find(asset).registered.scope
            if found is None:
                asset_id = scope.asset_id or 0
                position = self._before(asset_id, start)
                found = HeldConsumer(self._tables.new_id(), asset_id, name, start_text(start), position, self._now())
                self._tables.consumers[found.id] = found
            member = Member(self._tables.new_id(), found.id, scope, name, found.start)
            found.members[member.id] = self._now() + lease // _MICROSECOND
            return member

    async def ahas_work(self, member: Member) -> bool:
        """Tell whether there may be something to take."""
        with self._lock:
            consumer, now = self._held(member), self._now()
            return (
                bool(self._events(consumer, consumer.taken, 1))
                or any(each.not_before is not None and each.not_before <= now for each in consumer.deliveries.values())
                or any(until <= now for until in consumer.members.values())
            )

    async def atake(self, member: Member, taking: Taking) -> list[Delivery]:
        """Take the events that are due."""
        with self._lock:
            consumer, now = self._held(member), self._now()
            if member.id not in consumer.members:
                raise member_lost(member)
            consumer.members[member.id] = now + taking.lease // _MICROSECOND
            tell_exhausted(member, taking, self._release(consumer, taking, now))
            due = [each for each in consumer.deliveries.values() if each.not_before is not None]
            due = sorted((each for each in due if (each.not_before or 0) <= now), key=lambda each: each.event_id)
            due = due[: taking.limit]
            waiting = due[:1] if due and due[0].alone else list(takewhile(lambda each: not each.alone, due))
            held = list(waiting)
            if len(waiting) < taking.limit and not any(each.alone for each in due):
                for event in self._events(consumer, consumer.taken, taking.limit - len(waiting)):
                    consumer.deliveries[event.id] = HeldDelivery(event.id)
                    held.append(consumer.deliveries[event.id])
                    consumer.taken = event.id
            consumer.fence += 1
            for each in held:
                each.member_id, each.fence, each.not_before = member.id, consumer.fence, None
                each.alone = len(held) == 1
            return [self._delivery(consumer, each) for each in held]

    def _release(self, consumer: HeldConsumer, taking: Taking, now: int) -> list[int]:
        exhausted: list[int] = []
        late = {member for member, until in consumer.members.items() if until <= now}
        for member in late:
            del consumer.members[member]
        for each in list(consumer.deliveries.values()):
            if each.member_id not in late:
                continue
            if each.alone:
                each.failures += 1
                each.error = CRASHED
            each.alone = True
            each.wait()
            if taking.max_attempts and each.failures >= taking.max_attempts:
                exhausted.append(each.event_id)
                if taking.skip:
                    del consumer.deliveries[each.event_id]
                else:
                    each.not_before, each.failed_at = None, now
        return sorted(exhausted)

    def _delivery(self, consumer: HeldConsumer, held: HeldDelivery) -> Delivery:
        (event,) = self._events(consumer, held.event_id - 1, 1)
        return Delivery(event, consumer.id, held.fence, held.failures + 1)

    async def arenew(self, member: Member, *, lease: timedelta) -> bool:
        """Renew the lease of a reader."""
        with self._lock:
            consumer = self._tables.consumers.get(member.consumer_id)
            if consumer is None or member.id not in consumer.members:
                return False
            consumer.members[member.id] = self._now() + lease // _MICROSECOND
            return True

    def _in_hand(self, delivery: Delivery) -> tuple[HeldConsumer, HeldDelivery]:
        consumer = self._tables.consumers.get(delivery.consumer_id)
        held = None if consumer is None else consumer.deliveries.get(delivery.event.id)
        if consumer is None or held is None or held.fence != delivery.fence:
            raise delivery_lost(delivery)
        return consumer, held

    async def adone(self, delivery: Delivery) -> None:
        """Have an event done."""
        with self._lock:
            consumer, held = self._in_hand(delivery)
            del consumer.deliveries[held.event_id]

    async def afail(self, delivery: Delivery, error: str, *, delay: timedelta | None) -> None:
        """Count a failure of an event."""
        with self._lock:
            _, held = self._in_hand(delivery)
            held.failures += 1
            held.alone = False
            held.error = error
            now = self._now()
            held.wait(now if delay is None else now + delay // _MICROSECOND)
            if delay is None:
                held.not_before, held.failed_at = None, now
        self._hub.changed()

    async def agive_back(self, member: Member, *, keep: Sequence[int] = ()) -> None:
        """Give back what a reader holds."""
        with self._lock:
            consumer = self._tables.consumers.get(member.consumer_id)
            for each in () if consumer is None else consumer.deliveries.values():
                if each.member_id == member.id and each.event_id not in keep:
                    each.alone = False
                    each.wait()
        self._hub.changed()

    async def aleave(self, member: Member) -> None:
        """Give back what a reader holds, and forget the reader."""
        await self.agive_back(member)
        with self._lock:
            consumer = self._tables.consumers.get(member.consumer_id)
            if consumer is not None:
                consumer.members.pop(member.id, None)

    # For operators.

    async def areplay(self, asset: AssetScope, name: str, to: int | datetime) -> int:
        """Have a consumer read again from there on."""
        with self._lock:
            consumer = self._named(asset, name)
            before = self._before(consumer.asset_id, to)
            if before >= consumer.taken:
                return 0
            again = [each.id for each in self._events(consumer, before) if each.id <= consumer.taken]
            consumer.deliveries = {key: each for key, each in consumer.deliveries.items() if key <= before}
            consumer.taken = before
        self._hub.changed()
        return len(again)

    async def alist_failed(
        self, asset: AssetScope, name: str, *, after: int = 0, limit: int | None = None
    ) -> list[FailedEvent]:
        """List the events that were set aside."""
        with self._lock:
            consumer = self._named(asset, name)
            aside = [each for each in consumer.deliveries.values() if each.failed_at is not None]
            aside = sorted((each for each in aside if each.event_id > after), key=lambda each: each.event_id)
            return [
                FailedEvent(
                    event=self._delivery(consumer, each).event,
                    consumer=name,
                    attempts=each.failures,
                    error=each.error,
                    failed_at=from_microseconds(each.failed_at or 0),
                )
                for each in aside[:limit]
            ]

    async def aretry(self, asset: AssetScope, name: str, events: Sequence[int] | None = None) -> int:
        """Have events that were set aside delivered again."""
        count = 0
        with self._lock:
            for each in self._named(asset, name).deliveries.values():
                if each.failed_at is not None and (events is None or each.event_id in events):
                    each.failures = 0
                    each.alone = False
                    each.wait()
                    count += 1
        self._hub.changed()
        return count

    async def adelete(self, asset: AssetScope, name: str) -> None:
        """Delete a consumer."""
        with self._lock:
            del self._tables.consumers[self._named(asset, name).id]
        self._hub.changed()

    async def alist(self) -> list[ConsumerRecord]:
        """List every consumer by asset and name."""
        with self._lock:
            records = [self._record(each) for each in self._tables.consumers.values()]
        return sorted(records, key=lambda each: (each.asset, each.name))

    def _record(self, consumer: HeldConsumer) -> ConsumerRecord:
        held = consumer.deliveries.values()
        return ConsumerRecord(
            asset=self._tables.assets[consumer.asset_id].registered.name,
            name=consumer.name,
            position=consumer.taken,
            behind=len(self._events(consumer, consumer.taken)),
            in_hand=sum(each.member_id is not None for each in held),
            waiting=sum(each.not_before is not None for each in held),
            failed=sum(each.failed_at is not None for each in held),
            readers=sum(until > self._now() for until in consumer.members.values()),
            created_at=from_microseconds(consumer.created_at),
        )

    async def aprune(
        self, *, older_than: timedelta | None, keep: int | None, unfinished: bool, dry_run: bool, batch_size: int
    ) -> int:
        """Delete the events that are too old or too many."""
        with self._lock:
            before = None if older_than is None else self._tables.now() - older_than
            readers = [] if unfinished else list(self._tables.consumers.values())
            gone = {
                event_id
                for event_id, asset_id in self._tables.old_events(before, keep)
                if not any(each.asset_id == asset_id and each.needs(event_id) for each in readers)
            }
            if not dry_run:
                self._tables.drop_events(gone)
                for each in self._tables.consumers.values():
                    each.deliveries = {key: held for key, held in each.deliveries.items() if key not in gone}
        return len(gone)

    def bell(self, asset: AssetScope) -> AbstractContextManager[asyncio.Event]:
        """Give an event that is set when there may be something new."""
        return self._hub.listening(word_of_events(asset))
