"""Listing a bucket from its beginning to its end, whatever comes in between."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from asyncstore import WorkerBackendError

from ..patience import Patience

if TYPE_CHECKING:
    from asyncstore.backends.objects.listing import ListedObject, ObjectListing

__all__ = ["pages_of", "steady"]

#: Whose listings are in the order of names, by what they document.
_SORTED = {"s3", "gs", "memory"}
#: What the client writes otherwise in a name before it asks for what comes after it (object_store's `Path::from`).
_REWRITTEN = re.compile(r'[\x00-\x1f\x7f"#%*<>?\[\\\]^`{|}~]|//')
_LAST = "\U0010ffff"
#: What differs each time in what a storage says.
_FLEETING = re.compile(r"<(RequestId|HostId|Resource)>.*?</\1>|\b(in|elapsed:?) \d[\d.]*(ns|µs|ms|s)\b|<\?xml.*?\?>")


async def pages_of(
    listing: ObjectListing, patience: Patience, *, after: str = "", flat: bool, ordered: bool = False
) -> AsyncGenerator[list[ListedObject]]:
    """List the objects, page by page, none empty; a storage that is away is waited for, and goes on where it broke off.

    Where a storage lists in no order, a listing that broke off begins anew, and gives again what it gave.

    :param listing: of what.
    :param patience: waits, and tells why.
    :param after: only those whose path is greater.
    :param flat: objects below further slashes are asked for. Else a storage that can is asked to pass over them.
    :param ordered: paths must come in their order; a page that is out of it is told and asked for again.
    """
    at = after
    while True:
        try:
            async with aclosing(listing.pages(_offset(at))) as pages:
                jump = None
                async for found in pages:
                    patience.arrived()
                    page = _in_order(found, at) if ordered else found
                    if not page:
                        continue
                    yield page
                    if ordered or listing.kind in _SORTED:
                        at = page[-1].path
                    jump = None if flat else _past(listing.kind, at)
                    if jump is not None:
                        break
            if jump is None:
                break
            at = jump
        except WorkerBackendError as error:
            await patience.wait(steady(str(error), listing))
    patience.arrived()


def _offset(at: str) -> str | None:
    """Give a name that is not greater, and that the client leaves as it is."""
    found = _REWRITTEN.search(at)
    return (at if found is None else at[: found.start()]).rstrip("/") or None


def _past(kind: str, at: str) -> str | None:
    """Give a name behind the folder that a path is in; None where that saves nothing or cannot be asked for."""
    folder, slash, _ = at.partition("/")
    end = f"{folder}/{_LAST}"
    return end if slash and kind == "s3" and at < end == _offset(end) else None


def _in_order(found: list[ListedObject], at: str) -> list[ListedObject]:
    """Give what comes after a path, each greater than the one before.

    The marker of a folder (`a/`, without a byte) is called as the folder, and stands out of order behind `a-b`.
    """
    page: list[ListedObject] = []
    last = ""
    for each in found:
        if each.path > last:
            last = each.path
            if each.path > at:
                page.append(each)
        elif each.size:
            raise WorkerBackendError("the listing is not in the order of names, which `ordered` needs")
    return page


def steady(text: str, listing: ObjectListing) -> str:
    """Leave out of an error what differs each time, and the name of the source, so that it is told once.

    :param text: the error.
    :param listing: whose.
    """
    return " ".join(_FLEETING.sub("", text.removeprefix(f"{listing}: ")).split())
