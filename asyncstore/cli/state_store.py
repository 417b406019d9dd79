"""`asyncstore state-store`: garbage collection of task state, and the sweep of deactivated assets."""

from __future__ import annotations

import asyncio
import copy

import click

from ..abc import Capability
from ..records import CleanupBatch, CleanupReport
from ..store import Store
from .commands import Group
from .failures import Interrupted
from .output import emit, expired_line, pairs
from .progress import Progress
from .running import open_store, run
from .shapes import CleanedUp, Swept
from .showing import show_one, shows

__all__ = ["state_store"]

_NOTHING = "Nothing to delete."


@click.group("state-store", cls=Group, short_help="Clean up the state of tasks and assets.")
def state_store() -> None:
    """Clean up the state of tasks and assets."""


@state_store.command("cleanup-task-store", short_help="Delete expired task state.")
@click.option("--dry-run", is_flag=True, help="Delete nothing; list the rows that would go.")
@click.option("--verbose", is_flag=True, help="Tell of each batch; with --dry-run, since when each row is expired.")
@shows(CleanedUp)
@click.pass_context
def cleanup(ctx: click.Context, dry_run: bool, verbose: bool, as_json: bool) -> None:
    """Delete exactly the rows of task state that have expired.

    With [state_store] state_cleanup_batch_size there is a commit after each batch, and Ctrl-C ends it between two of
    them; batches that are done stay done. Asset state is never touched.
    """
    work = _list_expired if dry_run else _delete_expired
    run(ctx, work, open_store(ctx), verbose=verbose, as_json=as_json)


_older_spelling = copy.copy(cleanup)
_older_spelling.hidden = True
state_store.add_command(_older_spelling, "cleanup-task-states")


@state_store.command(short_help="Delete the state of assets deactivated long ago.")
@click.option("--dry-run", is_flag=True, help="Delete nothing; list the assets whose state would go.")
@shows(Swept)
@click.pass_context
def sweep_assets(ctx: click.Context, dry_run: bool, as_json: bool) -> None:
    """Delete the state of assets that were deactivated longer than [state_store] asset_grace_days ago."""
    run(ctx, _sweep, open_store(ctx), dry_run, as_json)


async def _list_expired(store: Store, *, verbose: bool, as_json: bool) -> None:
    if as_json:
        async with store:
            show_one(CleanedUp.of(await store.acleanup(dry_run=True)), as_json=True)
        return
    listed = False

    def show(batch: CleanupBatch) -> None:
        nonlocal listed
        if not listed and batch.total:
            listed = True
            emit([f"Would delete {batch.total} task state row(s):"])
        emit(expired_line(row, with_expiry=verbose) for row in batch.rows)
        emit(pairs(object=path) for path in batch.objects)

    async with store:
        report = await store.acleanup(dry_run=True, on_batch=show)
    if report.objects:
        emit([f"Would delete {report.objects} object(s)."])
    if report.skipped is not None:
        emit([f"Skipped: {report.skipped}"])
    elif not listed and not report.objects:
        # A backend of the user's own may count without listing.
        emit([f"Would delete {report.deleted} task state row(s)." if report.deleted else _NOTHING])
    if report.objects_skipped is not None:
        emit([f"Skipped: {report.objects_skipped}"])


async def _delete_expired(store: Store, *, verbose: bool, as_json: bool) -> None:
    with Progress(verbose=verbose) as progress:
        async with store:
            report = await _until_interrupted(store, progress)
    if as_json:
        show_one(CleanedUp.of(report), as_json=True)
        return
    if report.skipped is not None:
        emit([f"Skipped: {report.skipped}"])
    elif report.deleted is None:
        emit([f"{report.backend} cleaned up; it does not say how many rows went."])
    else:
        emit([f"Deleted {report.deleted} task state row(s)."])
    if report.objects:
        emit([f"Deleted {report.objects} object(s)."])
    if report.objects_skipped is not None:
        emit([f"Skipped: {report.objects_skipped}"])


async def _until_interrupted(store: Store, progress: Progress) -> CleanupReport:
    work = asyncio.create_task(store.acleanup(on_batch=progress), name="cleanup")
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        # Cancelled, a batch in hand may be committed or not. Waited for, it is, and the count is exact.
        counts = Capability.CLEANUP in store.backend.capabilities
        if counts:
            click.echo("stopping after the batch in hand; Ctrl-C again does not wait for it", err=True)
            progress.stop()
        else:
            work.cancel()
        await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # whatever it is, the interrupt is what the user hears of
        done = f": {progress.done} task state row(s) were deleted and stay so" if counts else ""
        raise Interrupted(f"interrupted{done}") from None


async def _sweep(store: Store, dry_run: bool, as_json: bool) -> None:
    async with store:
        report = await store.asweep_assets(dry_run=dry_run)
    if as_json:
        show_one(Swept.of(report), as_json=True)
        return
    if report.skipped is not None:
        emit([f"Skipped: {report.skipped}"])
        return
    if not report.assets:
        emit([_NOTHING])
        return
    what = "Would delete" if dry_run else "Deleted"
    emit([f"{what} {report.deleted} state row(s) of {len(report.assets)} deactivated asset(s):"])
    emit(pairs(asset=name) for name in report.assets)
