"""`asyncstore db`: the schema of the metastore."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..backends.choice import choose
from ..errors import ConfigurationError
from .commands import Group, confirm, yes_option
from .failures import Failure
from .output import emit
from .running import run, settings_of
from .shapes import Moved, Schema
from .showing import show_one, shows

if TYPE_CHECKING:
    from ..backends.metastore import MetastoreBackend

__all__ = ["db"]


@click.group(cls=Group, short_help="Look after the schema of the metastore.")
def db() -> None:
    """Look after the schema of the metastore."""


@db.command(short_help="Bring the schema to this release's revision.")
@shows(Moved)
@click.pass_context
def upgrade(ctx: click.Context, as_json: bool) -> None:
    """Bring the schema to the revision that this release needs; create it where there is none.

    Nothing happens where it is current. Programs of the release before are refused when they start afterwards.
    """
    run(ctx, _upgrade, _metastore(ctx), as_json)


@db.command(short_help="Take the schema back to an earlier revision.")
@click.argument("revision")
@yes_option
@shows(Moved)
@click.pass_context
def downgrade(ctx: click.Context, revision: str, yes: bool, as_json: bool) -> None:
    """Take the schema back to REVISION, for the release that needs it; `base` removes every table with what it holds.

    Stop every program that uses the database first.
    """
    backend = _metastore(ctx)
    confirm(f"Take {backend.place} back to schema {revision} and lose what only later schemas hold", yes=yes)
    run(ctx, _downgrade, backend, revision, as_json)


@db.command(short_help="Print the revision of the schema.")
@shows(Schema)
@click.pass_context
def current(ctx: click.Context, as_json: bool) -> None:
    """Print the revision of the schema; exit with 1 where there is none. Changes nothing."""
    run(ctx, _current, _metastore(ctx), as_json)


@db.command(short_help="Tell whether the schema is this release's.")
@shows(Schema)
@click.pass_context
def check(ctx: click.Context, as_json: bool) -> None:
    """Exit with 0 if the schema has the revision that this release needs, else with 1. Changes nothing."""
    run(ctx, _check, _metastore(ctx), as_json)


async def _upgrade(backend: MetastoreBackend, as_json: bool) -> None:
    before, after = await backend.aupgrade()
    if before is None:
        done = f"created schema {after}"
    else:
        done = f"has schema {after} already" if before == after else f"upgraded schema {before} to {after}"
    _tell_moved(backend, before, after, done, as_json=as_json)


async def _downgrade(backend: MetastoreBackend, revision: str, as_json: bool) -> None:
    before, after = await backend.adowngrade(revision)
    if before == after:
        done = f"has schema {after} already" if after else "has none of asyncstore's tables"
    else:
        done = f"downgraded schema {before} to {after}" if after else f"removed schema {before} with everything in it"
    _tell_moved(backend, before, after, done, as_json=as_json)


def _tell_moved(backend: MetastoreBackend, before: str | None, after: str | None, done: str, *, as_json: bool) -> None:
    if as_json:
        show_one(Moved(backend.place, before, after), as_json=True)
    else:
        emit([f"{backend.place}: {done}"])


async def _current(backend: MetastoreBackend, as_json: bool) -> None:
    if as_json:
        await _show(backend)
    revision = await _revision(backend)
    if not as_json:
        emit([revision])


async def _check(backend: MetastoreBackend, as_json: bool) -> None:
    from ..backends.metastore.migrate import HEAD

    if as_json:
        await _show(backend)
    revision = await _revision(backend)
    if revision != HEAD:
        async with backend:  # is refused, with the reason and the way out; a file that has tables stays as it is
            raise Failure(f"{backend.place} has schema {revision}, this release needs {HEAD}")
    if not as_json:
        emit([f"{backend.place}: schema {revision} is current"])


async def _show(backend: MetastoreBackend) -> None:
    from ..backends.metastore.migrate import HEAD

    revision = await backend.arevision()
    show_one(Schema(backend.place, revision, HEAD, revision == HEAD), as_json=True)


async def _revision(backend: MetastoreBackend) -> str:
    revision = await backend.arevision()
    if revision is not None:
        return revision
    if backend.path is not None and not backend.path.exists():
        raise Failure(f"{backend.place} does not exist; `asyncstore db upgrade` creates it")
    raise Failure(f"{backend.place} has none of asyncstore's tables; `asyncstore db upgrade` adds them")


def _metastore(ctx: click.Context) -> MetastoreBackend:
    settings = settings_of(ctx)
    from ..backends.metastore import MetastoreBackend

    backend = choose(settings, None)()
    if not isinstance(backend, MetastoreBackend):
        raise ConfigurationError(
            f"[state_store] backend is {settings.state_store.backend!r}, so no metastore is in use; "
            "--database names one all the same"
        )
    return backend
