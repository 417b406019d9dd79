"""What members of a fleet do, and what people ask of watchers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from hashlib import sha256

from ....clock import from_microseconds
from ....fleet.deciding import decide
from ....fleet.records import Claim, Declared, Load, Member, Peer, Standing, Survey, TriggererRecord
from ....records import Lease, WatcherOrder, WatcherRecord, WatcherState
from ....scopes import AssetScope
from .. import statements
from ..steps import Now, Procedure, ask, tells
from .state import require_registered
from .watchers import read_watcher

__all__ = [
    "Joiner",
    "beat",
    "begin_anew",
    "bury",
    "claim",
    "declare",
    "drain",
    "extend",
    "held",
    "holders",
    "join",
    "leave",
    "list_members",
    "load",
    "order",
    "release",
    "restarted",
    "standing",
    "survey",
]

_MICROSECOND = timedelta(microseconds=1)


@tells()
def declare(watchers: Sequence[tuple[AssetScope, str]], now: Now) -> Procedure[list[Declared]]:
    """Make known watchers that are not known yet; gives all that were asked for."""
    wanted = {(scope.asset_id, name) for scope, name in watchers if scope.asset_id is not None}
    assets = sorted({asset_id for asset_id, _ in wanted})
    found = yield from _find(assets)
    missing: defaultdict[str, list[int]] = defaultdict(list)
    for asset_id, name in wanted - found.keys():
        missing[name].append(asset_id)
    for name, of_assets in sorted(missing.items()):
        yield ask(statements.fleet.add_watchers, name=name, assets=sorted(of_assets), now=now())
    if missing:
        found = yield from _find(assets)
    return [Declared(found[place], *place) for place in wanted & found.keys()]


def _find(assets: list[int]) -> Procedure[dict[tuple[int, str], int]]:
    rows, _ = yield ask(statements.fleet.find_watchers, assets=assets)
    return {(asset_id, name): watcher_id for watcher_id, asset_id, name in rows}


@dataclass(frozen=True, slots=True)
class Joiner:
    """Hold what a triggerer says of itself, see `Fleet.ajoin`."""

    owner: str
    token: str
    process: str | None
    capacity: int


@tells("fleet")
def join(joiner: Joiner, watchers: Collection[int], lease: timedelta, now: Now) -> Procedure[Member]:
    """Become a member."""
    ids = sorted(watchers)
    declares = sha256(",".join(map(str, ids)).encode()).hexdigest()[:32]
    given = {**asdict(joiner), "declares": declares}
    rows, _ = yield ask(statements.fleet.add_triggerer, **given, lease=lease // _MICROSECOND, now=now())
    yield ask(statements.fleet.drop_stale_declarations, declares=declares)
    yield ask(statements.fleet.add_declarations, declares=declares, ids=ids)
    return Member(rows[0][0], declares)


@tells()
def extend(member: Member, watchers: Collection[int]) -> Procedure[None]:
    """Say that members of a kind can run more watchers."""
    yield ask(statements.fleet.add_declarations, declares=member.declares, ids=sorted(watchers))


@tells()
def beat(member: Member, lease: timedelta, now: Now) -> Procedure[bool]:
    """Renew a lease, unless it has run out."""
    renewed = yield ask(statements.fleet.renew_lease, triggerer_id=member.id, lease=lease // _MICROSECOND, now=now())
    return bool(renewed.rows)


def survey(member: Member, now: Now) -> Procedure[Survey]:
    """Look around."""
    rows, _ = yield ask(statements.fleet.list_triggerers, now=now())
    peers = tuple(
        Peer(peer, owner, process, capacity, declares, bool(draining), timedelta(microseconds=max(remaining, 0)))
        for peer, owner, process, capacity, declares, draining, _, _, remaining in rows
    )
    free, _ = yield ask(statements.fleet.list_free, declares=member.declares)
    orders, _ = yield ask(statements.fleet.list_orders, triggerer_id=member.id)
    return Survey(
        peers, tuple(row[0] for row in free), {watcher_id: WatcherOrder(asked) for watcher_id, asked in orders}
    )


def load(declares: Collection[str]) -> Procedure[Load]:
    """Count what there is to divide."""
    kinds = sorted(set(declares))
    runnable: dict[str, frozenset[int] | int] = {}
    for kind in kinds:
        if len(kinds) == 1:
            rows, _ = yield ask(statements.fleet.count_runnable, declares=kind)
            runnable[kind] = int(rows[0][0])
        else:
            rows, _ = yield ask(statements.fleet.list_runnable, declares=kind)
            runnable[kind] = frozenset(row[0] for row in rows)
    rows, _ = yield ask(statements.fleet.count_held)
    return Load(runnable, {row[0]: row[1] for row in rows})


def standing(member: Member) -> Procedure[Standing]:
    """Count the declared watchers, and those of them that are not done."""
    rows, _ = yield ask(statements.fleet.count_declared, declares=member.declares)
    return Standing(int(rows[0][0]), int(rows[0][1]))


@tells("fleet")
def begin_anew(watchers: Collection[int], now: Now) -> Procedure[None]:
    """Have watchers run again that are done."""
    yield ask(statements.fleet.begin_anew, ids=sorted(watchers), now=now())


@tells("fleet")
def claim(member: Member, owner: str, watchers: Collection[int], now: Now) -> Procedure[list[Claim] | None]:
    """Claim watchers that are free; None where the member's lease has run out."""
    # Whoever is held cannot be buried: what is claimed here is found by whoever buries it later.
    if not (yield ask(statements.fleet.hold_triggerer, triggerer_id=member.id, now=now())).touched:
        return None
    ids = sorted(watchers)
    yield ask(statements.fleet.claim_free, ids=ids, triggerer_id=member.id, new_owner=owner, now=now())
    # Those that were claimed before and whose answer was lost count, too.
    rows, _ = yield ask(statements.fleet.list_claimed, ids=ids, triggerer_id=member.id)
    return [Claim(watcher_id, fence) for watcher_id, fence in rows]


@tells("fleet")
def release(member: Member, watchers: Mapping[int, WatcherState], now: Now) -> Procedure[None]:
    """Give watchers back."""
    by_state: defaultdict[str, list[int]] = defaultdict(list)
    for watcher_id, state in watchers.items():
        by_state[state.value].append(watcher_id)
    for new_state, ids in sorted(by_state.items()):
        yield ask(
            statements.fleet.release_watchers, ids=sorted(ids), triggerer_id=member.id, new_state=new_state, now=now()
        )


def held(member: Member) -> Procedure[list[Claim]]:
    """Read which watchers a member has."""
    rows, _ = yield ask(statements.fleet.list_held, triggerer_id=member.id)
    return [Claim(watcher_id, fence) for watcher_id, fence in rows]


def holders(watchers: Collection[int]) -> Procedure[dict[int, int]]:
    """Read who has which of the watchers."""
    rows, _ = yield ask(statements.fleet.list_holders, ids=sorted(watchers))
    return {watcher_id: holder for watcher_id, holder in rows}  # noqa: C416 - rows of any kind


@tells()
def restarted(lease: Lease, now: Now) -> Procedure[None]:
    """Say that a watcher was restarted, as somebody asked."""
    yield ask(statements.fleet.take_order, watcher_id=lease.watcher_id, lease_fence=lease.fence, now=now())


@tells("fleet")
def drain(member: Member) -> Procedure[None]:
    """Say that the member takes no more watchers."""
    yield ask(statements.fleet.drain_triggerer, triggerer_id=member.id)


@tells("fleet")
def leave(member: Member, now: Now) -> Procedure[int]:
    """Give everything back, and be a member no more."""
    return (yield from _bury([member.id], now))


@tells("fleet")
def bury(gone: Collection[int], now: Now) -> Procedure[int]:
    """Set free what members held that are gone, or whose lease has run out."""
    return (yield from _bury(sorted(gone), now))


def _bury(gone: list[int], now: Now) -> Procedure[int]:
    # First the members, then what they held: whoever is just claiming is waited for, and claims nothing after that.
    rows, _ = yield ask(statements.fleet.drop_triggerers, ids=gone, now=now())
    ids = sorted(row[0] for row in rows)
    if not ids:
        return 0
    return (yield ask(statements.fleet.free_watchers, ids=ids, now=now())).touched


@tells("fleet")
def order(asset: AssetScope, name: str, wanted: WatcherOrder, now: Now) -> Procedure[WatcherRecord]:
    """Ask something of a watcher."""
    asset_id = yield from require_registered(asset)
    rows, _ = yield ask(statements.fleet.hold_watcher, asset_id=asset_id, watcher_name=name, now=now())
    found = rows[0] if rows else (0, None, None, False)
    watcher_id, state, asked, held = found
    decision = decide(
        asset,
        name,
        wanted,
        state=None if state is None else WatcherState(state),
        asked=None if asked is None else WatcherOrder(asked),
        held=bool(held),
    )
    if decision.state is not None:
        new_state = decision.state.value
        again = wanted is WatcherOrder.RESTART
        yield ask(statements.fleet.leave_watcher, again, watcher_id=watcher_id, new_state=new_state, now=now())
    elif decision.changes:
        new = None if decision.asked is None else decision.asked.value
        yield ask(statements.fleet.ask_watcher, watcher_id=watcher_id, new_asked=new, now=now())
    return (yield from read_watcher(watcher_id, now))


def list_members(now: Now) -> Procedure[list[TriggererRecord]]:
    """List the triggerers."""
    rows, _ = yield ask(statements.fleet.list_triggerers, now=now())
    held, _ = yield ask(statements.fleet.count_held)
    running: dict[int, int] = {row[0]: row[1] for row in held}
    return [
        TriggererRecord(
            id=member,
            owner=owner,
            capacity=capacity,
            running=running.get(member, 0),
            draining=bool(draining),
            started_at=from_microseconds(started_at),
            lease_age=timedelta(microseconds=max(age, 0)),
            lease_remaining=timedelta(microseconds=remaining),
        )
        for member, owner, _, capacity, _, draining, started_at, age, remaining in rows
    ]
