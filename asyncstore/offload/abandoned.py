"""Removing objects that no row ever came to refer to: their writer crashed, or was undone, before its row was there.

An object is abandoned where it is older than any transaction stays open, and the row of its key refers to another one
or is not there. No two writes share an object, so that none of them is ever referred to again. Before one goes it is
asked whose it is: what only looks like ours, such as that of a store whose path is below this one, stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from ..blocking import inline
from ..clock import from_microseconds
from ..errors import AssetInactiveError, AssetNotFoundError, StoreCorruptError
from ..scopes import AssetScope, Scope, TaskScope
from .abc import Keeper, Kept, Place
from .stored import IMMUTABLE, Reference

if TYPE_CHECKING:
    from .layer import OffloadingCore

__all__ = ["Tell", "remove_abandoned"]

Tell = Callable[[Sequence[str]], None]


async def remove_abandoned(
    core: OffloadingCore, grace: timedelta, known: Container[str], *, dry_run: bool, tell: Tell
) -> tuple[int, str | None]:
    """Remove what is abandoned.

    :param core: the store's core.
    :param grace: what is younger may be on its way still.
    :param known: paths that are counted already.
    :param dry_run: only tell.
    :param tell: is told the paths, page by page.
    :return: how many there are; and why nothing could be done, None where it was.
    """
    keeper = core.keeper
    if not keeper.immutable:
        return 0, None
    if keeper.identity is None:
        backend = type(core.backend).__name__
        return 0, f"{backend} does not tell which store it is, so that another's objects could be taken for abandoned"
    owner = await core.work(keeper.aowner)
    if owner != keeper.identity:
        if owner is None:
            return 0, None  # this store never wrote anything there
        return 0, f"{keeper} belongs to another store, whose objects must not be taken for abandoned"
    before = from_microseconds(core.clock.microseconds()) - grace
    pages = keeper.pages()
    count = 0
    while (page := await core.work(lambda: anext(pages, None))) is not None:
        old = [each for each in page if each.written_at < before and _path(each) not in known]
        gone = await _without_row(core, keeper, old)
        if gone and not dry_run:
            await core.work(partial(keeper.adiscard, [_text(each) for each in gone]))
        if gone:
            tell([_path(each) for each in gone])
        count += len(gone)
    return count, None


def _path(kept: Kept) -> str:
    return f"{kept.at}/{kept.digest}"


def _text(kept: Kept) -> str:
    return Reference(kept.at, 0, kept.digest).text


async def _without_row(core: OffloadingCore, keeper: Keeper, page: Sequence[Kept]) -> list[Kept]:
    async def is_abandoned(kept: Kept) -> bool:
        if kept.place is not None and await _is_referred_to(core, kept.place, kept):
            return False
        place = await core.work(lambda: keeper.aplace(kept))
        return place is not None and (place == kept.place or not await _is_referred_to(core, place, kept))

    if inline():
        found = [await is_abandoned(each) for each in page]
    else:  # what is asked at once is read in one statement
        found = await asyncio.gather(*map(is_abandoned, page))
    return [each for each, gone in zip(page, found, strict=True) if gone]


async def _is_referred_to(core: OffloadingCore, place: Place, kept: Kept) -> bool:
    try:
        scopes = _scopes(place)
    except ValueError:  # the path is none of ours
        return True
    for scope in scopes:
        if await _refers(core, scope, place.key, kept):
            return True
    return False


def _scopes(place: Place) -> list[Scope]:
    if place.kind == "task":
        return [TaskScope.from_ti_id(place.owner)]
    # It may have got another name since, and had its URI for a name before.
    return [AssetScope(name=place.owner), AssetScope(uri=place.owner)]


async def _refers(core: OffloadingCore, scope: Scope, key: str, kept: Kept) -> bool:
    try:
        text = await core.read_row(scope, key)
    except AssetNotFoundError:
        return False
    except AssetInactiveError:
        return True  # it may come back whole
    if text is None or not text.startswith(IMMUTABLE):
        return False
    try:
        reference = Reference.parse(text)
    except StoreCorruptError:
        return True
    return (reference.at, reference.digest) == (kept.at, kept.digest)
