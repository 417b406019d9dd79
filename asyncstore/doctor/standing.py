"""How the store stands: triggerers and their leases, watchers, consumers, and what waits for garbage collection."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import timedelta

from ..consumers.records import ConsumerRecord
from ..fleet import TriggererRecord
from ..records import WatcherRecord, WatcherState
from ..store import Store
from .records import Finding, ok, warning

__all__ = ["examine_standing"]

_NAMED = 3
#: Events from which a consumer lags that somebody reads.
_LAG = 10_000
#: Expired rows from which somebody should have run garbage collection.
_GARBAGE = 100_000


async def examine_standing(store: Store) -> AsyncIterator[Finding]:
    """Look at leases, watchers, consumers and garbage.

    :param store: an open store, whose backend can all of it.
    """
    triggerers = await store.alist_triggerers()
    yield _triggerers(triggerers)
    yield _watchers(await store.alist_watchers(), alive=any(map(_is_alive, triggerers)))
    yield _consumers(await store.alist_consumers())
    expired = (await store.acleanup(dry_run=True)).deleted or 0
    rested = await store.asweep_assets(dry_run=True)
    told = f"{expired:,} expired rows of task state, {rested.deleted:,} rows of assets deactivated long ago"
    if expired >= _GARBAGE or rested.assets:
        fix = "run `asyncstore state-store cleanup-task-store` and `sweep-assets`, or set [triggerer] cleanup_interval"
        yield warning("garbage", told, fix)
    else:
        yield ok("garbage", told)


def _is_alive(record: TriggererRecord) -> bool:
    return record.lease_remaining > timedelta(0)


def _some(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - _NAMED} more" if len(every) > _NAMED else ""
    return ", ".join(every[:_NAMED]) + more


def _triggerers(records: Sequence[TriggererRecord]) -> Finding:
    late = [each for each in records if not _is_alive(each)]
    alive = len(records) - len(late)
    if late:
        told = f"{alive} alive, {len(late)} overdue: {_some(each.owner for each in late)}"
        fix = "their watchers go to the next triggerer that looks; start one if none is alive: `asyncstore triggerer`"
        return warning("triggerers", told, fix)
    return ok("triggerers", f"{alive} alive, none overdue")


def _watchers(records: Sequence[WatcherRecord], *, alive: bool) -> Finding:
    failing = [each for each in records if each.state in {WatcherState.BACKING_OFF, WatcherState.CRASH_LOOPING}]
    if failing:
        told = f"{len(failing)} of {len(records)} fail: {_some(f'{each.asset}/{each.name}' for each in failing)}"
        return warning("watchers", told, "`asyncstore triggers show ASSET NAME` has the traceback")
    waiting = [each for each in records if each.state is WatcherState.WAITING]
    if waiting and not alive:
        told = (
            f"{len(waiting)} wait and no triggerer is alive: {_some(f'{each.asset}/{each.name}' for each in waiting)}"
        )
        return warning(
            "watchers", told, "start what declares them: `asyncstore triggerer TARGET` or `asyncstore watch SOURCE`"
        )
    return ok("watchers", f"{len(records)} known, none fails")


def _consumers(records: Sequence[ConsumerRecord]) -> Finding:
    def named(found: Sequence[ConsumerRecord]) -> str:
        return _some(f"{each.name} of {each.asset}" for each in found)

    aside = [each for each in records if each.failed]
    if aside:
        told = f"{sum(each.failed for each in aside):,} events were set aside: {named(aside)}"
        return warning("consumers", told, "see them with `asyncstore events failed`, then `retry` or `forget`")
    lag = [each for each in records if each.behind + each.waiting >= (_LAG if each.readers else 1)]
    if lag:
        told = f"{sum(each.behind + each.waiting for each in lag):,} events wait: {named(lag)}"
        fix = "start more readers; `asyncstore events forget` lets go of a consumer that nobody is any more"
        return warning("consumers", told, fix)
    return ok("consumers", f"{len(records)} known, none lags")
