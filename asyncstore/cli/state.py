"""`list`, `get`, `set`, `delete` and `clear`: the same for the state of an asset and of a task instance."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, TypeVar, cast

import click

from ..abc import Capability
from ..errors import InlineValueWarning
from ..settings.showing import printable
from ..store import Store
from . import completing, places
from .commands import confirm, counted, near, yes_option
from .failures import Failure
from .output import emit, json_line
from .places import Place
from .running import open_store, run, see_through
from .shapes import Deleted, EntryDetails, EntryRow, ValueRow, Written
from .showing import is_terminal, show_one, show_pages, shows
from .texts import ValueCommand, read_retention, read_value

__all__ = ["add_state_commands"]

F = TypeVar("F", bound=Callable[..., Any])
#: Adds the arguments that say whose state it is; gives the place that they name.
Arguments = Callable[[Any], Any]
Named = Callable[[Mapping[str, Any]], Place]

_MOST = 2**63 - 1
_key = click.argument("key", shell_complete=completing.complete_keys)


def add_state_commands(group: click.Group, whose: str, arguments: Arguments, named: Named, *, of_task: bool) -> None:
    """Add the commands to a group.

    :param group: the group.
    :param whose: what the arguments name, for the help.
    :param arguments: adds them.
    :param named: gives the place that they name.
    :param of_task: values may expire, and there may be mapped instances.
    """
    for make in (_list, _get, _set, _delete, _clear):
        group.add_command(make(whose, arguments, named, of_task))


def _list(whose: str, arguments: Arguments, named: Named, of_task: bool) -> click.Command:
    @click.command("list", short_help="List the keys.", help=f"List the keys of {whose}, with what is known of each.")
    @arguments
    @click.option("--prefix", default="", help="Only keys that begin so.")
    @click.option("--values", is_flag=True, help="With the values, but for those that a worker-side backend keeps.")
    @click.option("--limit", type=click.IntRange(0, _MOST), metavar="N", help="At most so many.")
    @shows(ValueRow)
    @click.pass_context
    def command(
        ctx: click.Context, /, prefix: str, values: bool, limit: int | None, as_json: bool, **given: Any
    ) -> None:
        kind = ValueRow if values else EntryRow

        async def rows(store: Store, scope: Any) -> AsyncIterator[list[EntryRow]]:
            async for page in places.pages(store, scope, prefix, values=values, limit=limit):
                yield [kind.of(each) for each in page]

        async def main() -> None:
            async with open_store(ctx) as store:
                scope = await named(given).scope(store)
                await show_pages(kind, rows(store, scope), as_json=as_json)

        run(ctx, main)

    return command


def _get(whose: str, arguments: Arguments, named: Named, of_task: bool) -> click.Command:
    text = (
        f"Print the value of KEY of {whose} as JSON, one line; where there is none, exit with 1.\n\n"
        "With --json the value comes with its version, times and writer."
    )

    @click.command("get", short_help="Print a value.", help=text)
    @arguments
    @_key
    @click.option("--text", "as_text", is_flag=True, help="Print a string as it is, not as JSON.")
    @shows(EntryDetails)
    @click.pass_context
    def command(ctx: click.Context, /, key: str, as_text: bool, as_json: bool, **given: Any) -> None:
        entry = run(ctx, _read, open_store(ctx), named(given), key, as_json)
        if as_json:
            show_one(entry, as_json=True)
        elif as_text and isinstance(entry.value, str):
            # What a terminal would take for a command is escaped there, and nowhere else.
            value = "\n".join(map(printable, entry.value.split("\n"))) if is_terminal() else entry.value
            emit([value])
        else:
            emit([json_line(entry.value)])

    return command


async def _read(store: Store, place: Place, key: str, whole: bool) -> EntryDetails:
    async with store:
        scope = await place.scope(store)
        state = place.state(store, scope)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InlineValueWarning)
            if whole and store.core.can(Capability.ENTRIES):
                entry = await state.aget_entry(key)
                if entry is not None:
                    return EntryDetails.of(key, entry)
            else:
                value = await state.aget(key)
                if value is not None:
                    return EntryDetails(key, value, None, None, None, None)
        keys: list[str] = []
        if store.core.can(Capability.LISTING):
            keys = await store.backend.alist_keys(scope, limit=1000)
    raise Failure(f"{place} has no key {key!r}{_guess(key, keys)}")


def _guess(key: str, keys: list[str]) -> str:
    question = near(key, keys)
    return f".{question}" if question else ""


def _set(whose: str, arguments: Arguments, named: Named, of_task: bool) -> click.Command:
    text = (
        f"Write KEY of {whose} and print the new version. VALUE is JSON; with --text it is taken as a string as it "
        "stands. `-` reads it from stdin; with --text one line end at its end is left out."
    )
    retention = click.option(
        "--retention",
        callback=read_retention,
        metavar="SPAN",
        help="How long it is kept: 90s, 30m, 12h, 7d, 2w or never.  [default: as configured]",
    )

    @click.command("set", cls=ValueCommand, short_help="Write a value.", help=text)
    @arguments
    @_key
    @click.argument("value")
    @click.option("--text", "as_text", is_flag=True, help="VALUE is a string, not JSON.")
    @(retention if of_task else _nothing)
    @click.option(
        "--if-version",
        type=click.IntRange(0, _MOST),
        metavar="N",
        help="Only if this version is stored; 0: only if there is no such key.",
    )
    @shows(Written)
    @click.pass_context
    def command(
        ctx: click.Context,
        /,
        key: str,
        value: str,
        as_text: bool,
        if_version: int | None,
        as_json: bool,
        retention: Any = None,
        **given: Any,
    ) -> None:
        read = read_value(value, as_text=as_text)

        async def main() -> int | None:
            async with open_store(ctx) as store:
                place = named(given)
                scope = await place.scope(store)
                state = place.state(store, scope)
                return await places.write(store, state, scope, key, read, retention=retention, if_version=if_version)

        version = run(ctx, main)
        if as_json:
            show_one(Written(key, version), as_json=True)
        elif version is not None:
            emit([f"version {version}" if is_terminal() else str(version)])

    return command


def _nothing(command: F) -> F:
    return command


def _delete(whose: str, arguments: Arguments, named: Named, of_task: bool) -> click.Command:
    @click.command("delete", short_help="Delete keys.", help=f"Delete KEYS of {whose}, all or none.")
    @arguments
    @click.argument("keys", nargs=-1, required=True, shell_complete=completing.complete_keys)
    @yes_option
    @shows(Deleted)
    @click.pass_context
    def command(ctx: click.Context, /, keys: tuple[str, ...], yes: bool, as_json: bool, **given: Any) -> None:
        place = named(given)

        async def look() -> list[str]:
            async with open_store(ctx) as store:
                scope = await place.scope(store)
                return await places.present(store, place.state(store, scope), scope, keys)

        async def main() -> None:
            async with open_store(ctx) as store:
                scope = await place.scope(store)
                await places.remove(store, place.state(store, scope), scope, found)

        found = run(ctx, look)
        if found:
            what = f"key {found[0]!r}" if len(found) == 1 else counted(len(found), "key")
            confirm(f"Delete {what} of {place}", yes=yes)
            run(ctx, main)
        _tell_deleted(len(found), place, as_json=as_json)

    return command


def _tell_deleted(count: int | None, place: Place, *, as_json: bool) -> None:
    if as_json:
        show_one(Deleted(cast("int", count)), as_json=True)
    elif count is None:
        emit([f"Cleared {place}."])
    else:
        emit([printable(f"Deleted {counted(count, 'key')} of {place}.")])


def _clear(whose: str, arguments: Arguments, named: Named, of_task: bool) -> click.Command:
    mapped = click.option("--all-map-indices", is_flag=True, help="Of every instance of the task, mapped or not.")

    @click.command("clear", short_help="Delete every key.", help=f"Delete every key of {whose}, all or none.")
    @arguments
    @(mapped if of_task else _nothing)
    @yes_option
    @shows(Deleted)
    @click.pass_context
    def command(ctx: click.Context, /, yes: bool, as_json: bool, all_map_indices: bool = False, **given: Any) -> None:
        place = named(given)

        async def look() -> int | None:
            async with open_store(ctx) as store:
                return await places.count(store, await place.scope(store), all_map_indices=all_map_indices)

        async def main() -> None:
            async with open_store(ctx) as store:
                state: Any = place.state(store, await place.scope(store))
                work = state.aclear(True) if all_map_indices else state.aclear()
                await see_through(work, f"{what} were deleted")

        count = run(ctx, look)
        what = "all keys" if count is None else counted(count, "key")
        if count != 0:
            every = ", every map index" if all_map_indices else ""
            confirm(f"Delete {what} of {place}{every}", yes=yes)
            run(ctx, main)
        _tell_deleted(count, place, as_json=as_json)

    return command
