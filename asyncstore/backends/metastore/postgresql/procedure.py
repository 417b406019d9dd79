"""Running procedures on a connection of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import ARRAY, BigInteger, Executable, Integer, Text, bindparam, text
from sqlalchemy.types import TypeEngine

from ....changes import Commit, CommitResult
from ....errors import StoreError
from ...watching import ALWAYS_TOLD
from ..dialect import postgresql_sql
from ..procedures import assets, consumers, fleet, pruning, state, watchers
from ..steps import Answer, Now, Procedure, Step, ask, words_of
from .errors import Fate, NotConnected, fate
from .link import Link
from .writing import Write, commit_call, outcome_of

__all__ = ["committing", "is_repeatable", "is_single", "read", "spell", "write"]

T = TypeVar("T")

# Registrations are decided by what is registered: one at a time.
_HOLD_REGISTRY = "SELECT pg_advisory_xact_lock(1634956147, 2)"
_REGISTRY = {
    *(assets.register_asset, assets.register_assets),
    *(assets.set_active, assets.delete_asset, assets.sweep_assets),
    fleet.join,  # which declarations are stale is decided by who is there
}
_TELL_ALL = "SELECT asyncstore_tell_all()"
_TELL_WORDS = "SELECT asyncstore_tell_words($1)"
_TELL_ALWAYS = "SELECT pg_notify('asyncstore', $1)"
_TELLING = {assets.set_active, assets.delete_asset, assets.sweep_assets, state.delete_run}
#: One statement, which needs no transaction around it.
_SINGLE = {
    *(fleet.beat, fleet.restarted, watchers.report_watcher),
    *(consumers.renew, consumers.complete, consumers.fail),
}
#: Done twice, they would say something else than what they did.
_ONCE = {
    *(assets.delete_asset, assets.sweep_assets, state.delete_run, pruning.prune),
    *(consumers.take, consumers.complete, consumers.fail, consumers.replay, consumers.retry, consumers.delete),
}


def spell(step: Step) -> tuple[str, list[Any]]:
    """Give a step as asyncpg takes it: the text and the arguments."""
    words, names = postgresql_sql(step.build, *step.arguments)
    return words, [step.parameters.get(name, constant) for name, constant in names]


def is_repeatable(procedure: Callable[..., Procedure[Any]]) -> bool:
    """Tell whether a procedure may be done again where nobody knows whether it was done."""
    return procedure not in _ONCE


def is_single(procedure: Callable[..., Procedure[Any]]) -> bool:
    """Tell whether a procedure is one statement."""
    return procedure in _SINGLE


async def read(link: Link, steps: Procedure[T]) -> T:
    """Run a procedure that only reads, each statement by itself."""
    try:
        step = next(steps)
        while True:
            words, arguments = spell(step)
            rows = await link.run(words, *arguments)
            step = steps.send(Answer(rows, len(rows)))
    except StopIteration as stop:
        done: T = stop.value
        return done
    finally:
        steps.close()


async def write(link: Link, procedure: Callable[..., Procedure[T]], make: Callable[[], Procedure[T]]) -> T:
    """Run a procedure in a transaction.

    :param link: the connection.
    :param procedure: which one it is.
    :param make: begins it.
    """
    if procedure in _SINGLE:
        return await read(link, make())
    try:
        await link.begin()
        if procedure in _REGISTRY:
            await link.step(_HOLD_REGISTRY)
        done = await _inside(link, make())
        if procedure in _TELLING:
            await link.step(_TELL_ALL)
        elif words_of(procedure) == ALWAYS_TOLD:
            await link.step(_TELL_ALWAYS, *ALWAYS_TOLD)
        elif words := words_of(procedure):
            await link.step(_TELL_WORDS, list(words))
    except StoreError:
        await link.raw.execute("ROLLBACK")
        raise
    except Exception as error:
        if fate(error) is Fate.LOST:  # before it was committed
            raise NotConnected(error) from error
        if not link.closed:
            await link.raw.execute("ROLLBACK")
        raise
    await link.commit()
    link.settle()
    return done


async def _inside(link: Link, steps: Procedure[T]) -> T:
    try:
        step = next(steps)
        while True:
            words, arguments = spell(step)
            rows, count = await link.step(words, *arguments)
            step = steps.send(Answer(rows, count))
    except StopIteration as stop:
        done: T = stop.value
        return done
    finally:
        steps.close()


# A commit inside a session of the caller's.

_ARRAYS: dict[str, TypeEngine[Any]] = {"t": ARRAY(Text), "b": ARRAY(BigInteger), "i": ARRAY(Integer)}
#: The types of the parameters of `asyncstore_commit` behind the first.
_TYPES = "tbbb" + "itbttti" + "ttbb" + "itt"


def _commit_call() -> Executable:
    """Call the function that makes commits."""
    types: list[TypeEngine[Any]] = [BigInteger(), *(_ARRAYS[kind] for kind in _TYPES)]
    names = [f"p{place}" for place in range(len(types))]
    call = text(f"SELECT * FROM asyncstore_commit({', '.join(f':{name}' for name in names)})")  # noqa: S608
    return call.bindparams(*(bindparam(name, type_=kind) for name, kind in zip(names, types, strict=True)))


def committing(commit: Commit, now: Now) -> Procedure[CommitResult]:
    """Make a commit inside a transaction of the caller's."""
    _, arguments = commit_call([Write(commit, 0.0)], now())
    rows, _ = yield ask(_commit_call, **{f"p{place}": value for place, value in enumerate(arguments)})
    outcome = outcome_of(commit, rows)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
