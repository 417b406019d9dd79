"""`asyncstore assets`: what is registered."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import click

from ..abc import Capability
from ..browsing.records import AssetSummary
from ..records import AssetRecord
from ..scopes import Asset, AssetScope
from ..store import Store
from ..values import JsonValue
from . import completing
from .commands import Group, confirm, counted, yes_option
from .failures import Misuse
from .finding import find_asset
from .output import emit
from .running import open_store, run
from .shapes import AssetDetails, AssetRow, Deleted
from .showing import show_one, show_pages, shows
from .texts import quoted

__all__ = ["assets"]

_PAGE = 500
_asset = click.argument("asset", shell_complete=completing.complete_assets)


@click.group(cls=Group, short_help="List, register, rest and delete assets.")
def assets() -> None:
    """List, register, deactivate, activate and delete assets; ASSET is a name or a URI."""


@assets.command("list", short_help="List the assets.")
@shows(AssetRow)
@click.pass_context
def list_assets(ctx: click.Context, as_json: bool) -> None:
    """List the registered assets by name, deactivated ones too."""

    async def pages(store: Store) -> AsyncIterator[list[AssetRow]]:
        after = ""
        while page := await store.browser.alist_assets(after=after, limit=_PAGE):
            yield [AssetRow.of(each) for each in page]
            after = page[-1].name

    async def main() -> None:
        async with open_store(ctx) as store:
            await show_pages(AssetRow, pages(store), as_json=as_json)

    run(ctx, main)


@assets.command("show", short_help="Tell everything about an asset.")
@_asset
@shows(AssetDetails)
@click.pass_context
def show(ctx: click.Context, asset: str, as_json: bool) -> None:
    """Tell what is registered of ASSET, and how many keys, events, watchers and consumers it has."""
    show_one(AssetDetails.summing(run(ctx, _describe, open_store(ctx), asset)), as_json=as_json)


async def _describe(store: Store, asset: str) -> AssetSummary:
    async with store:
        found = await find_asset(store, asset)
        return await store.browser.adescribe_asset(found.scope)


@assets.command("register", short_help="Register an asset.")
@click.argument("name")
@click.option("--uri", help="Where it is; NAME where it is not given.")
@click.option("--group", default="asset", show_default=True, help="A label for people.")
@click.option("--extra", default="{}", metavar="JSON", help="A JSON object for people.")
@shows(AssetRow)
@click.pass_context
def register(ctx: click.Context, name: str, uri: str | None, group: str, extra: str, as_json: bool) -> None:
    """Register an asset, or find it; one that is registered takes a URI where it has none, and else stays as it is."""
    try:
        facts = json.loads(extra)
    except (ValueError, RecursionError) as error:
        raise Misuse(f"--extra: {quoted(extra)} is no JSON: {error}") from error
    if not isinstance(facts, dict):
        raise Misuse(f'--extra: {quoted(extra)} is no JSON object, such as \'{{"owner": "etl"}}\'')
    try:
        asset = Asset(name, uri, group=group, extra=cast("dict[str, JsonValue]", facts))
    except (ValueError, TypeError) as error:
        raise Misuse(str(error)) from error

    async def main() -> AssetRecord:
        async with open_store(ctx) as store:
            return await store.aregister(asset)

    show_one(AssetRow.of(run(ctx, main)), as_json=as_json)


def _changing(ctx: click.Context, asset: str, as_json: bool, change: Callable[[Store, AssetScope], Any]) -> None:
    async def main() -> AssetRecord:
        async with open_store(ctx) as store:
            found = await find_asset(store, asset)
            work: Awaitable[None] = change(store, found.scope)
            await work
            return await find_asset(store, found.name)

    show_one(AssetRow.of(run(ctx, main)), as_json=as_json)


@assets.command("deactivate", short_help="Put an asset's state to rest.")
@_asset
@shows(AssetRow)
@click.pass_context
def deactivate(ctx: click.Context, asset: str, as_json: bool) -> None:
    """Put the state of ASSET to rest: neither read nor written until it is activated.

    After [state_store] asset_grace_days a sweep may delete it.
    """
    _changing(ctx, asset, as_json, lambda store, scope: store.adeactivate(scope))


@assets.command("activate", short_help="Bring a deactivated asset back.")
@_asset
@shows(AssetRow)
@click.pass_context
def activate(ctx: click.Context, asset: str, as_json: bool) -> None:
    """Bring ASSET back, with its state where that was not swept."""
    _changing(ctx, asset, as_json, lambda store, scope: store.aactivate(scope))


@assets.command("delete", short_help="Delete an asset with all that hangs on it.")
@_asset
@yes_option
@shows(Deleted)
@click.pass_context
def delete(ctx: click.Context, asset: str, yes: bool, as_json: bool) -> None:
    """Delete ASSET with its state, its watchers, its events and their consumers."""
    name, what = run(ctx, _weigh, open_store(ctx), asset)
    confirm(f"Delete asset {name!r}{what}", yes=yes)

    async def main() -> None:
        async with open_store(ctx) as store:
            await store.adelete_asset((await find_asset(store, name)).scope)

    run(ctx, main)
    if as_json:
        show_one(Deleted(1), as_json=True)
    else:
        emit([f"Deleted asset {name}{what}."])


async def _weigh(store: Store, asset: str) -> tuple[str, str]:
    async with store:
        found = await find_asset(store, asset)
        if not store.core.can(Capability.BROWSING):
            return found.name, " with all that hangs on it"
        summary = await store.browser.adescribe_asset(found.scope)
    numbers = {"key": summary.keys, "event": summary.events, "watcher": summary.watchers, "consumer": summary.consumers}
    what = ", ".join(counted(count, one) for one, count in numbers.items() if count)
    return found.name, f" with {what}" if what else ", on which nothing hangs"
