"""`asyncstore asset-store` and `asyncstore task-store`: state, by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import click

from ..scopes import TaskScope
from ..store import Store
from . import completing
from .commands import Group, confirm, counted, yes_option
from .output import emit
from .places import AssetPlace, TaskPlace
from .running import open_store, see_through
from .running import run as run_main
from .shapes import Deleted, TaskRow
from .showing import show_one, show_pages, shows
from .state import add_state_commands

__all__ = ["asset_store", "task_store"]

_PAGE = 500
_MOST = 2**63 - 1


@click.group("asset-store", cls=Group, short_help="Read and write the state of an asset.")
def asset_store() -> None:
    """Read and write the state of an asset; ASSET is its name or URI."""


@click.group("task-store", cls=Group, short_help="Read and write the state of a task instance.")
def task_store() -> None:
    """Read and write the state of a task instance: DAG, RUN, TASK, and --map-index of a mapped one."""


def _task_arguments(command: Callable[..., Any]) -> Callable[..., Any]:
    index = click.option(
        "--map-index", type=int, default=-1, metavar="N", help="The instance of a mapped task.  [default: not mapped]"
    )
    return click.argument("dag")(click.argument("run")(click.argument("task")(index(command))))


def _task(given: Mapping[str, Any]) -> TaskPlace:
    return TaskPlace(TaskScope(given["dag"], given["run"], given["task"], given["map_index"]))


add_state_commands(
    asset_store,
    "ASSET",
    click.argument("asset", shell_complete=completing.complete_assets),
    lambda given: AssetPlace(given["asset"]),
    of_task=False,
)
add_state_commands(task_store, "a task instance", _task_arguments, _task, of_task=True)


@task_store.command("scopes", short_help="List the task instances that have state.")
@click.option("--dag", help="Only of this workflow.")
@click.option("--run", help="Only of this run; quick, however much there is.")
@click.option("--task", help="Only of this task.")
@click.option("--limit", type=click.IntRange(0, _MOST), metavar="N", help="At most so many.")
@shows(TaskRow)
@click.pass_context
def scopes(
    ctx: click.Context, dag: str | None, run: str | None, task: str | None, limit: int | None, as_json: bool
) -> None:
    """List the task instances that have state, by run, task, dag and map index, and how many keys each has."""
    run_main(ctx, _scopes, open_store(ctx), {"dag_id": dag, "run_id": run, "task_id": task}, limit, as_json)


async def _scopes(store: Store, parts: dict[str, Any], limit: int | None, as_json: bool) -> None:
    async def pages(limit: int | None) -> AsyncIterator[list[TaskRow]]:
        after: TaskScope | None = None
        while limit is None or limit > 0:
            size = _PAGE if limit is None else min(limit, _PAGE)
            page = await store.browser.alist_tasks(**parts, after=after, limit=size)
            yield [TaskRow.of(each) for each in page]
            if len(page) < size:
                return
            after = page[-1].scope
            limit = None if limit is None else limit - size

    async with store:
        await show_pages(TaskRow, pages(limit), as_json=as_json)


@task_store.command("delete-run", short_help="Delete the state of every task of a run.")
@click.argument("dag")
@click.argument("run")
@yes_option
@shows(Deleted)
@click.pass_context
def delete_run(ctx: click.Context, dag: str, run: str, yes: bool, as_json: bool) -> None:
    """Delete the state of every task of RUN of DAG."""
    TaskScope(dag, run, "checked")
    keys, tasks = run_main(ctx, _weigh_run, open_store(ctx), dag, run)
    if not yes:
        what = f"{counted(keys, 'key')} of {counted(tasks, 'task instance')}"
        confirm(f"Delete the state of run {run!r} of {dag!r}: {what}", yes=yes)

    async def main() -> int:
        async with open_store(ctx) as store:
            return await see_through(store.adelete_run(dag, run), "the state of the run was deleted")

    count = run_main(ctx, main)
    if as_json:
        show_one(Deleted(count), as_json=True)
    else:
        emit([f"Deleted {counted(count, 'key')}."])


async def _weigh_run(store: Store, dag: str, run: str) -> tuple[int, int]:
    keys, tasks, after = 0, 0, None
    async with store:
        while page := await store.browser.alist_tasks(dag_id=dag, run_id=run, after=after, limit=_PAGE):
            keys += sum(each.keys for each in page)
            tasks += len(page)
            after = page[-1].scope
    return keys, tasks
