"""Watchers, one by one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from ....clock import from_microseconds
from ....records import Lease, WatcherOrder, WatcherRecord, WatcherState
from ....scopes import AssetScope
from .. import statements
from ..steps import Now, Procedure, ask, tells
from .assets import get_asset
from .state import require_asset

__all__ = ["claim_watcher", "list_watchers", "read_watcher", "report_watcher"]

_MINUTE = 60_000_000


@tells("fleet")
def claim_watcher(asset: AssetScope, name: str, owner: str, now: Now) -> Procedure[Lease]:
    """Claim a watcher by hand, whoever has it, with a new fencing number."""
    asset_id = yield from require_asset(asset)
    rows, _ = yield ask(
        statements.watchers.claim_watcher,
        asset_id=asset_id,
        name=name,
        fence=1,
        owner=owner,
        state=WatcherState.RUNNING.value,
        restarts=0,
        now=now(),
    )
    record = yield from get_asset(AssetScope(asset_id))
    return Lease(rows[0][0], rows[0][1], record.scope, name)


@tells()
def report_watcher(lease: Lease, state: WatcherState, error: str | None, restarts: int, now: Now) -> Procedure[None]:
    """Keep what a watcher is doing, while the claim is the latest."""
    if error is not None:  # a traceback may show bytes that are no text, as lone surrogates, and NUL
        error = error.encode(errors="backslashreplace").decode().replace("\0", "\\x00")
    yield ask(
        statements.watchers.report_watcher,
        watcher_id=lease.watcher_id,
        lease_fence=lease.fence,
        new_state=state.value,
        more=restarts,
        error=error,
        now=now(),
    )


def list_watchers(now: Now) -> Procedure[list[WatcherRecord]]:
    """List every watcher."""
    rows, _ = yield ask(statements.watchers.list_watchers, now=now())
    return [_record(row) for row in rows]


def read_watcher(watcher_id: int, now: Now) -> Procedure[WatcherRecord]:
    """Read what is known of one watcher."""
    rows, _ = yield ask(statements.watchers.list_watchers, True, watcher_id=watcher_id, now=now())
    return _record(rows[0])


def _moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else from_microseconds(microseconds)


def _record(row: Sequence[Any]) -> WatcherRecord:
    asset, name, state, asked, fence, owner, restarts, error, error_at, updated_at, *rest = row
    claimed_at, event_id, event_at, minute, events, before, wrote_at, beat_at, now = rest
    age = None if beat_at is None else timedelta(microseconds=max(now - beat_at, 0))
    since = [each for each in (claimed_at, wrote_at, event_at) if each is not None]
    held = beat_at is not None
    return WatcherRecord(
        asset=asset,
        name=name,
        state=WatcherState(state),
        asked=None if asked is None else WatcherOrder(asked),
        fence=fence,
        owner=owner,
        restarts=restarts,
        last_error=error,
        last_error_at=_moment(error_at),
        updated_at=from_microseconds(updated_at),
        claimed_at=_moment(claimed_at),
        lease_age=age,
        last_event_id=None if event_id is None else abs(event_id),
        last_event_at=_moment(event_at),
        events_per_minute=_rate(now, minute, events or 0, before or 0),
        without_progress=timedelta(microseconds=max(now - max(since), 0)) if held and since else None,
    )


def _rate(now: int, minute: int | None, events: int, before: int) -> float:
    # A sliding window, as if the events of the minute before had come evenly:
    # https://blog.cloudflare.com/counting-things-a-lot-of-different-things/
    this, into = divmod(now, _MINUTE)
    if minute == this:
        return events + before * (1 - into / _MINUTE)
    return events * (1 - into / _MINUTE) if minute == this - 1 else 0.0
