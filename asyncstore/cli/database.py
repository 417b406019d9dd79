"""`asyncstore db`: the schema of the metastore."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..backends.choice import choose
from ..errors import ConfigurationError
from .failures import Failure
from .output import emit
from .running import run, settings_of

if TYPE_CHECKING:
    from ..backends.metastore import MetastoreBackend

__all__ = ["db"]


@click.group(short_help="Look after the schema of the metastore.")
def db() -> None:
    """Look after the schema of the metastore."""


@db.command(short_help="Bring the schema to this release's revision.")
@click.pass_context
def upgrade(ctx: click.Context) -> None:
    """Bring the schema to the revision that this release needs; create it where there is none.

    Nothing happens where it is current. Programs of the release before are refused when they start afterwards.
    """
    run(ctx, _upgrade, _metastore(ctx))


@db.command(short_help="Print the revision of the schema.")
@click.pass_context
def current(ctx: click.Context) -> None:
    """Print the revision of the schema; exit with 1 where there is none. Changes nothing."""
    run(ctx, _current, _metastore(ctx))


@db.command(short_help="Tell whether the schema is this release's.")
@click.pass_context
def check(ctx: click.Context) -> None:
    """Exit with 0 if the schema has the revision that this release needs, else with 1. Changes nothing."""
    run(ctx, _check, _metastore(ctx))


async def _upgrade(backend: MetastoreBackend) -> None:
    before, after = await backend.aupgrade()
    if before is None:
        done = f"created schema {after}"
    else:
        done = f"has schema {after} already" if before == after else f"upgraded schema {before} to {after}"
    emit([f"{_place(backend)}: {done}"])


async def _current(backend: MetastoreBackend) -> None:
    emit([await _revision(backend)])


async def _check(backend: MetastoreBackend) -> None:
    from ..backends.metastore.migrate import HEAD

    revision = await _revision(backend)
    if revision != HEAD:
        async with backend:  # is refused, with the reason and the way out; a file that has tables stays as it is
            raise Failure(f"{_place(backend)} has schema {revision}, this release needs {HEAD}")
    emit([f"{_place(backend)}: schema {revision} is current"])


async def _revision(backend: MetastoreBackend) -> str:
    revision = await backend.arevision()
    if revision is not None:
        return revision
    if backend.path is not None and not backend.path.exists():
        raise Failure(f"{_place(backend)} does not exist; `asyncstore db upgrade` creates it")
    raise Failure(f"{_place(backend)} has none of asyncstore's tables; `asyncstore db upgrade` adds them")


def _place(backend: MetastoreBackend) -> str:
    return "the in-memory database" if backend.path is None else f"the database file {str(backend.path)!r}"


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
