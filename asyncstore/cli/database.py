"""`asyncstore db`: the schema of the metastore."""

from __future__ import annotations

from functools import partial
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


@db.command(short_help="Take the schema back to an earlier revision.")
@click.argument("revision")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def downgrade(ctx: click.Context, revision: str, yes: bool) -> None:
    """Take the schema back to REVISION, for the release that needs it; `base` removes every table with what it holds.

    Stop every program that uses the database first.
    """
    backend = _metastore(ctx)
    if not yes:
        click.confirm(
            f"Take {backend.place} back to schema {revision}? What only later schemas hold is lost", abort=True
        )
    run(ctx, partial(_downgrade, revision=revision), backend)


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
    emit([f"{backend.place}: {done}"])


async def _downgrade(backend: MetastoreBackend, revision: str) -> None:
    before, after = await backend.adowngrade(revision)
    if before == after:
        done = f"has schema {after} already" if after else "has none of asyncstore's tables"
    else:
        done = f"downgraded schema {before} to {after}" if after else f"removed schema {before} with everything in it"
    emit([f"{backend.place}: {done}"])


async def _current(backend: MetastoreBackend) -> None:
    emit([await _revision(backend)])


async def _check(backend: MetastoreBackend) -> None:
    from ..backends.metastore.migrate import HEAD

    revision = await _revision(backend)
    if revision != HEAD:
        async with backend:  # is refused, with the reason and the way out; a file that has tables stays as it is
            raise Failure(f"{backend.place} has schema {revision}, this release needs {HEAD}")
    emit([f"{backend.place}: schema {revision} is current"])


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
