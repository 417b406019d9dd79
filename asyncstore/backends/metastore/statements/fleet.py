"""Triggerers, their leases, and which watchers they have."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Executable,
    Integer,
    Select,
    and_,
    bindparam,
    case,
    delete,
    false,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    true,
    update,
)

from ....records import WatcherOrder, WatcherState
from .. import dialect
from ..dialect import NOW
from ..schema import asset, declaration, triggerer, watcher
from .shared import given

__all__ = [
    "add_declarations",
    "add_triggerer",
    "add_watchers",
    "ask_watcher",
    "begin_anew",
    "claim_free",
    "count_declared",
    "count_held",
    "count_runnable",
    "drain_triggerer",
    "drop_stale_declarations",
    "drop_triggerers",
    "find_watchers",
    "free_watchers",
    "hold_triggerer",
    "hold_watcher",
    "leave_watcher",
    "list_claimed",
    "list_free",
    "list_held",
    "list_holders",
    "list_orders",
    "list_runnable",
    "list_triggerers",
    "release_watchers",
    "renew_lease",
    "take_order",
]

_SECOND = 1_000_000


def _lease() -> ColumnElement[int]:
    return NOW + bindparam("lease", type_=BigInteger)


# Members.


def add_triggerer() -> Executable:
    """Add a triggerer with a new lease, or find the one that was added with this token; gives its id."""
    values: dict[str, Any] = given(triggerer, "owner", "token", "process", "capacity", "declares")
    values.update(draining=false(), started_at=NOW, heartbeat_at=NOW, lease_until=_lease())
    statement = dialect.upserting(triggerer).values(values)
    renewed = {name: statement.excluded[name] for name in ("declares", "capacity", "heartbeat_at", "lease_until")}
    return statement.on_conflict_do_update(index_elements=[triggerer.c.token], set_=renewed).returning(triggerer.c.id)


def renew_lease() -> Executable:
    """Renew a lease that has not run out; gives a row where it had not."""
    return (
        update(triggerer)
        .where(triggerer.c.id == bindparam("triggerer_id"), triggerer.c.lease_until > NOW)
        .values(heartbeat_at=NOW, lease_until=_lease())
        .returning(triggerer.c.id)
    )


def hold_triggerer() -> Executable:
    """Lock a triggerer whose lease has not run out: it cannot be buried meanwhile."""
    return (
        update(triggerer)
        .where(triggerer.c.id == bindparam("triggerer_id"), triggerer.c.lease_until > NOW)
        .values(draining=triggerer.c.draining)
    )


def drain_triggerer() -> Executable:
    """Say that a triggerer takes no more watchers."""
    return update(triggerer).where(triggerer.c.id == bindparam("triggerer_id")).values(draining=true())


def list_triggerers() -> Executable:
    """List the triggerers, with what is left of their leases and how many watchers they have."""
    columns = (triggerer.c.id, triggerer.c.owner, triggerer.c.process, triggerer.c.capacity, triggerer.c.declares)
    return select(
        *columns,
        triggerer.c.draining,
        triggerer.c.started_at,
        NOW - triggerer.c.heartbeat_at,
        triggerer.c.lease_until - NOW,
    ).order_by(triggerer.c.id)


def drop_triggerers() -> Executable:
    """Delete the triggerers whose lease has run out, and those of a list; gives their ids."""
    gone = or_(triggerer.c.lease_until <= NOW, dialect.in_list(triggerer.c.id, "ids"))
    return delete(triggerer).where(gone).returning(triggerer.c.id)


# What they declare.


def find_watchers() -> Executable:
    """Find the watchers of assets."""
    return select(watcher.c.id, watcher.c.asset_id, watcher.c.name).where(dialect.in_list(watcher.c.asset_id, "assets"))


def add_watchers() -> Executable:
    """Add a watcher of one name to each of several assets, where there is none."""
    wanted = (watcher.c.asset_id, watcher.c.name, watcher.c.fence, watcher.c.owner, watcher.c.state)
    row = (
        *(asset.c.id, bindparam("name", type_=watcher.c.name.type), literal(0, Integer), literal("")),
        *(literal(WatcherState.WAITING.value), literal(0, Integer), NOW),
    )
    statement = dialect.upserting(watcher).from_select(
        [column.name for column in (*wanted, watcher.c.restarts, watcher.c.updated_at)],
        select(*row).where(dialect.in_list(asset.c.id, "assets")).order_by(asset.c.id),
    )
    return statement.on_conflict_do_nothing(index_elements=[watcher.c.asset_id, watcher.c.name])


def add_declarations() -> Executable:
    """Say that triggerers of a kind can run watchers."""
    row = select(bindparam("declares", type_=declaration.c.declares.type), watcher.c.id)
    rows = row.where(dialect.in_list(watcher.c.id, "ids")).order_by(watcher.c.id)
    statement = dialect.upserting(declaration).from_select(["declares", "watcher_id"], rows)
    return statement.on_conflict_do_nothing(index_elements=[declaration.c.declares, declaration.c.watcher_id])


def drop_stale_declarations() -> Executable:
    """Delete what no triggerer declares any more, but for one kind."""
    used = select(triggerer.c.declares)
    return delete(declaration).where(
        declaration.c.declares != bindparam("declares"), declaration.c.declares.not_in(used)
    )


# Who has which.

# As the index of what is free says it, to the letter.
_free = and_(watcher.c.triggerer_id.is_(None), watcher.c.state == literal_column("'waiting'"))
#: Neither at rest, nor held by hand.
_runnable = or_(_free, watcher.c.triggerer_id.is_not(None))


def _declared(*columns: ColumnElement[Any]) -> Select[Any]:
    joined = declaration.join(watcher, watcher.c.id == declaration.c.watcher_id)
    return select(*columns).select_from(joined).where(declaration.c.declares == bindparam("declares"))


def list_free() -> Executable:
    """List the declared watchers that wait for somebody."""
    return _declared(watcher.c.id).where(_free).order_by(watcher.c.id)


def list_runnable() -> Executable:
    """List the declared watchers that somebody should run."""
    return _declared(watcher.c.id).where(_runnable)


def count_runnable() -> Executable:
    """Count the declared watchers that somebody should run."""
    return _declared(func.count()).where(_runnable)


def count_declared() -> Executable:
    """Count the declared watchers, and those of them that are not done."""
    unfinished = case((watcher.c.state != WatcherState.DONE.value, 1))
    return _declared(func.count(), func.count(unfinished))


def begin_anew() -> Executable:
    """Have those of a list of watchers run again that are done."""
    done = and_(dialect.in_list(watcher.c.id, "ids"), watcher.c.state == WatcherState.DONE.value)
    return update(watcher).where(done).values(state=WatcherState.WAITING.value, updated_at=NOW)


def count_held() -> Executable:
    """Count the watchers that each triggerer has."""
    held = watcher.c.triggerer_id
    return select(held, func.count()).where(held.is_not(None)).group_by(held)


def claim_free() -> Executable:
    """Claim those of a list of watchers that are free and that nobody else is just claiming."""
    wanted = select(watcher.c.id).where(dialect.in_list(watcher.c.id, "ids"), _free).order_by(watcher.c.id)
    return (
        update(watcher)
        .where(watcher.c.id.in_(wanted.with_for_update(skip_locked=True)))
        .values(
            fence=watcher.c.fence + 1,
            triggerer_id=bindparam("triggerer_id", type_=BigInteger),
            owner=bindparam("new_owner"),
            state=WatcherState.RUNNING.value,
            claimed_at=NOW,
            updated_at=NOW,
        )
    )


def list_claimed() -> Executable:
    """List those of a list of watchers that a triggerer has, with their fencing numbers."""
    return select(watcher.c.id, watcher.c.fence).where(
        dialect.in_list(watcher.c.id, "ids"), watcher.c.triggerer_id == bindparam("triggerer_id", type_=BigInteger)
    )


def list_held() -> Executable:
    """List the watchers that a triggerer has, with their fencing numbers."""
    return select(watcher.c.id, watcher.c.fence).where(
        watcher.c.triggerer_id == bindparam("triggerer_id", type_=BigInteger)
    )


def list_holders() -> Executable:
    """List those of a list of watchers that a triggerer has, and which one."""
    held = and_(dialect.in_list(watcher.c.id, "ids"), watcher.c.triggerer_id.is_not(None))
    return select(watcher.c.id, watcher.c.triggerer_id).where(held)


def _locked(*conditions: ColumnElement[bool]) -> Select[Any]:
    # Rows are locked in the order of their ids, by everybody.
    return select(watcher.c.id).where(*conditions).order_by(watcher.c.id).with_for_update()


def _left(state: ColumnElement[Any]) -> dict[str, Any]:
    # What was asked while it was given back: whoever has it next kills it; the rest is done by leaving it so.
    asked, waiting = watcher.c.asked, WatcherState.WAITING.value
    to_kill = and_(asked == WatcherOrder.KILL.value, state != WatcherState.KILLED.value)
    return {
        "fence": watcher.c.fence + 1,
        "triggerer_id": null(),
        "asked": case((to_kill, asked), else_=null()),
        "updated_at": NOW,
        "state": case(
            (or_(to_kill, asked == WatcherOrder.RESTART.value), waiting),
            (and_(state == waiting, asked == WatcherOrder.PAUSE.value), WatcherState.PAUSED.value),
            # Resumed while it was about to be paused.
            (and_(state == WatcherState.PAUSED.value, asked.is_(None)), waiting),
            else_=state,
        ),
    }


def free_watchers() -> Executable:
    """Set free what triggerers of a list had."""
    held = _locked(dialect.in_list(watcher.c.triggerer_id, "ids"))
    return update(watcher).where(watcher.c.id.in_(held)).values(_left(literal(WatcherState.WAITING.value)))


def release_watchers() -> Executable:
    """Give back those of a list of watchers that a triggerer has, and leave them in a state."""
    held = _locked(
        dialect.in_list(watcher.c.id, "ids"), watcher.c.triggerer_id == bindparam("triggerer_id", type_=BigInteger)
    )
    return (
        update(watcher).where(watcher.c.id.in_(held)).values(_left(bindparam("new_state", type_=watcher.c.state.type)))
    )


# What people ask.


def list_orders() -> Executable:
    """List what is asked of the watchers that a triggerer has."""
    return select(watcher.c.id, watcher.c.asked).where(
        watcher.c.triggerer_id == bindparam("triggerer_id", type_=BigInteger), watcher.c.asked.is_not(None)
    )


def take_order() -> Executable:
    """Forget that a watcher should be restarted: it was."""
    return (
        update(watcher)
        .where(
            watcher.c.id == bindparam("watcher_id"),
            watcher.c.fence == bindparam("lease_fence"),
            watcher.c.asked == WatcherOrder.RESTART.value,
        )
        .values(asked=null(), state=WatcherState.RUNNING.value, restarts=0, updated_at=NOW)
    )


def _named() -> ColumnElement[bool]:
    return and_(watcher.c.asset_id == bindparam("asset_id"), watcher.c.name == bindparam("watcher_name"))


def hold_watcher() -> Executable:
    """Lock a watcher; gives its id, its state, what is asked of it, and whether somebody has it whose lease holds."""
    alive = select(triggerer.c.id).where(triggerer.c.id == watcher.c.triggerer_id, triggerer.c.lease_until > NOW)
    return (
        update(watcher)
        .where(_named())
        .values(updated_at=watcher.c.updated_at)
        .returning(watcher.c.id, watcher.c.state, watcher.c.asked, alive.scalar_subquery().is_not(None))
    )


def ask_watcher() -> Executable:
    """Ask something of a watcher that somebody has; null takes it back."""
    return (
        update(watcher)
        .where(watcher.c.id == bindparam("watcher_id"))
        .values(asked=bindparam("new_asked", type_=watcher.c.asked.type), updated_at=NOW)
    )


def leave_watcher(again: bool) -> Executable:
    """Leave a watcher that nobody has in a state.

    :param again: count its restarts from nothing.
    """
    return (
        update(watcher)
        .where(watcher.c.id == bindparam("watcher_id"))
        .values(
            fence=watcher.c.fence + 1,
            triggerer_id=null(),
            asked=null(),
            state=bindparam("new_state", type_=watcher.c.state.type),
            restarts=literal(0, Integer) if again else watcher.c.restarts,
            updated_at=NOW,
        )
    )
