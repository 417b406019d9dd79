"""`asyncstore triggers`: who runs which watcher, and telling watchers what to do, from anywhere."""

from __future__ import annotations

import click

from asyncstore import AssetScope, Store, WatcherOrder, WatcherRecord, WatcherState
from asyncstore.cli.commands import Group, confirm, yes_option
from asyncstore.cli.completing import complete_assets, complete_watchers
from asyncstore.cli.failures import Misuse
from asyncstore.cli.output import emit
from asyncstore.cli.running import open_store, run
from asyncstore.cli.showing import is_terminal, show_one, show_rows, shows

from ..poison import forget_set_aside, list_set_aside
from .showing import AsideRow, TriggererRow, WatcherRow

__all__ = ["triggers"]

_asset = click.argument("asset", shell_complete=complete_assets)
_name = click.argument("name", required=False, shell_complete=complete_watchers)


@click.group(cls=Group, short_help="See, pause, resume, restart and kill watchers.")
def triggers() -> None:
    """See who runs which watcher, and tell watchers what to do, from any machine that reaches the store."""


@triggers.command("list", short_help="List the watchers.")
@click.option("--state", type=click.Choice([each.value for each in WatcherState]), help="Only those in this state.")
@shows(WatcherRow)
@click.pass_context
def list_watchers(ctx: click.Context, state: str | None, as_json: bool) -> None:
    """List every watcher that was ever declared: what it is doing, who runs it, how it goes."""

    async def main() -> None:
        async with open_store(ctx) as store:
            found = [each for each in await store.alist_watchers() if state in {None, each.state.value}]
        show_rows(WatcherRow, map(WatcherRow.of, found), as_json=as_json)

    run(ctx, main)


@triggers.command("triggerers", short_help="List the triggerers.")
@shows(TriggererRow)
@click.pass_context
def list_triggerers(ctx: click.Context, as_json: bool) -> None:
    """List the processes that run watchers, and how long ago each renewed its lease."""

    async def main() -> None:
        async with open_store(ctx) as store:
            found = await store.alist_triggerers()
        show_rows(TriggererRow, map(TriggererRow.of, found), as_json=as_json)

    run(ctx, main)


@triggers.command("show", short_help="Tell everything about a watcher.")
@_asset
@_name
@shows(WatcherRow)
@click.pass_context
def show(ctx: click.Context, asset: str, name: str | None, as_json: bool) -> None:
    """Tell everything about the watcher NAME of ASSET, with the traceback of its latest error.

    NAME may be left out where the asset has one watcher.
    """

    async def main() -> None:
        async with open_store(ctx) as store:
            _, record = await _find(store, asset, name)
        show_one(WatcherRow.of(record), as_json=as_json)

    run(ctx, main)


async def _find(
    store: Store, asset: str, name: str | None, *, several: bool = False
) -> tuple[AssetScope, WatcherRecord]:
    watchers = await store.alist_watchers()
    names = {each.asset for each in watchers}
    if asset not in names:
        backend = store.backend
        record = await store.core.call(lambda: backend.aget_asset(AssetScope(uri=asset)))
        asset = record.name
    found = [each for each in watchers if each.asset == asset and name in {None, each.name}]
    if not found:
        there = ", ".join(repr(each.name) for each in watchers if each.asset == asset) or "none"
        wanted = f" {name!r} (there are: {there})" if name else ""
        raise Misuse(f"asset {asset!r} has no watcher{wanted}")
    if len(found) > 1 and not several:
        there = ", ".join(repr(each.name) for each in found)
        raise Misuse(f"asset {asset!r} has several watchers; name one of {there}")
    return AssetScope(name=asset), found[0]


@triggers.command("failed", short_help="List items that watchers failed at.")
@_asset
@shows(AsideRow)
@click.pass_context
def list_failed(ctx: click.Context, asset: str, as_json: bool) -> None:
    """List the items that the watchers of ASSET failed at, with the traceback.

    A table on a terminal, JSON one a line elsewhere.
    """

    async def main() -> None:
        async with open_store(ctx) as store:
            scope, _ = await _find(store, asset, None, several=True)
            found = await list_set_aside(store.asset_state[scope])
        show_rows(AsideRow, map(AsideRow.of, found), as_json=as_json or not is_terminal())

    run(ctx, main)


@triggers.command("forget", short_help="Forget an item that a watcher failed at.")
@_asset
@click.argument("item")
@click.option(
    "--watcher",
    help="Of this watcher; needed where the asset has several.",
    shell_complete=complete_watchers,
)
@yes_option
@click.pass_context
def forget(ctx: click.Context, asset: str, item: str, watcher: str | None, yes: bool) -> None:
    """Forget that a watcher of ASSET failed at ITEM: it counts from nothing where the source gives it again."""

    async def main() -> None:
        async with open_store(ctx) as store:
            scope, record = await _find(store, asset, watcher)
            state = store.asset_state[scope]
            if item not in {each.item for each in await list_set_aside(state) if each.watcher == record.name}:
                raise Misuse(f"watcher {record.name!r} of asset {record.asset!r} has not failed at {item!r}")
            await forget_set_aside(state, record.name, item)

    confirm(f"Forget that a watcher of {asset!r} failed at {item!r}", yes=yes)
    run(ctx, main)


_DONE = {
    WatcherOrder.PAUSE: "paused",
    WatcherOrder.RESUME: "resumed",
    WatcherOrder.RESTART: "restarted",
    WatcherOrder.KILL: "killed",
}


def _ordering(order: WatcherOrder, short_help: str, text: str) -> None:
    @triggers.command(order.value, short_help=short_help, help=text)
    @_asset
    @_name
    @shows(WatcherRow)
    @click.pass_context
    def command(ctx: click.Context, asset: str, name: str | None, as_json: bool) -> None:
        async def main() -> None:
            async with open_store(ctx) as store:
                scope, found = await _find(store, asset, name)
                record = await store.aorder_watcher(scope, found.name, order)
            if as_json:
                show_one(WatcherRow.of(record), as_json=True)
                return
            what = f"watcher {record.name!r} of asset {record.asset!r}"
            if record.asked is order:
                emit([f"{what} is to be {_DONE[order]}; {record.owner} runs it, and does so soon"])
            else:
                emit([f"{what} is {record.state}"])

        run(ctx, main)


_ordering(
    WatcherOrder.PAUSE,
    "Stop a watcher until it is resumed.",
    "Stop the watcher NAME of ASSET until it is resumed. The commit in hand is finished, and cleanup() is called.",
)
_ordering(WatcherOrder.RESUME, "Let a paused watcher go on.", "Let the paused watcher NAME of ASSET go on.")
_ordering(
    WatcherOrder.RESTART,
    "Start a watcher anew, whatever its state.",
    "Start the watcher NAME of ASSET anew, from its watermark and without waiting, whatever its state: one that is "
    "done or was killed runs again.",
)
_ordering(
    WatcherOrder.KILL,
    "Stop a watcher for good, with on_kill().",
    "Stop the watcher NAME of ASSET for good: on_kill() and cleanup() are called, and nobody runs it until it is "
    "restarted. Where nobody runs it now, on_kill() is not called.",
)
