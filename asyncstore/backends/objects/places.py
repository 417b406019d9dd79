"""Where an object is: paths that escape no folder, never collide, and fit S3 (1,024 bytes) and file systems (255).

::

    <dag_id>/<run_id>/<task_id>/<map_index>/<key>/<name>
    assets/<asset>/<key>/<name>

Each segment is percent-encoded. A long one is cut and closed with `!` and a hash; no encoded text has a `!`, so that a
cut name is never that of another. The name is the digest of an immutable object, or `value` of one that is overwritten.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import quote, unquote

from ...offload.abc import Place
from ...scopes import TaskScope

__all__ = ["MARKER", "MAX_PATH", "VALUE", "Found", "key_of", "parse", "reference_of", "segment"]

#: Characters of a segment at most: four of them, a map index and a digest leave room for a prefix.
MAX_SEGMENT = 180
_HASH = 32
#: Characters of a path below the base URL at most.
MAX_PATH = 4 * (MAX_SEGMENT + 1) + len("2147483647/") + 64
#: The name of an object that is overwritten.
VALUE = "value"
#: Says which store the folder belongs to.
MARKER = "!asyncstore"

_DIGEST = re.compile(r"[0-9a-f]{64}")


def _cut(name: str, whole: str) -> str:
    if len(name) <= MAX_SEGMENT:
        return name
    head = name[: MAX_SEGMENT - _HASH - 1]
    escape = head.rfind("%", -2)
    if escape != -1:  # half an escape
        head = head[:escape]
    return f"{head}!{sha256(whole.encode()).hexdigest()[:_HASH]}"


def segment(text: str) -> str:
    """Give the name of a folder for any text.

    :param text: not empty.
    """
    name = quote(text, safe="")
    if not name.strip("."):
        name = name.replace(".", "%2E")
    return _cut(name, text)


def _owners(place: Place) -> Iterator[str]:
    if place.kind == "asset":
        yield "assets"
        yield segment(place.owner)
        return
    parts = place.owner.split("/")
    try:
        canonical = TaskScope.from_ti_id(place.owner).ti_id == place.owner
    except (ValueError, TypeError):
        canonical = False
    if canonical:
        yield from (_cut(part, part) for part in parts)
    else:  # an id of somebody else's
        yield "!tasks"
        yield segment(place.owner)


def reference_of(place: Place) -> str:
    """Give the folder of a key's objects; it depends on nothing else."""
    return "/".join((*_owners(place), segment(place.key)))


def key_of(name: str) -> str | None:
    """Give the key that a folder is named after; None where the name was cut."""
    return None if "!" in name else unquote(name)


@dataclass(frozen=True, slots=True)
class Found:
    """Say what a path tells of an object.

    :ivar at: the folder of its key.
    :ivar name: its name in it.
    :ivar place: what it belongs to; None where the path was cut, and the object itself must be asked.
    """

    at: str
    name: str
    place: Place | None

    @property
    def is_immutable(self) -> bool:
        """Tell whether it is one of those that are never overwritten."""
        return _DIGEST.fullmatch(self.name) is not None


def parse(path: str) -> Found | None:
    """Read a path; None where it is none of ours."""
    *folders, name = path.split("/")
    at = "/".join(folders)
    if folders[:1] == ["assets"] and len(folders) == 3:
        owner: str | None = key_of(folders[1])
    elif len(folders) == 5 and not folders[0].startswith("!"):
        owner = "/".join(folders[:4])
        if "!" in owner:
            owner = None
    elif folders[:1] == ["!tasks"] and len(folders) == 3:
        owner = key_of(folders[1])
    else:
        return None
    key = key_of(folders[-1])
    if owner is None or key is None:
        return Found(at, name, None)
    return Found(at, name, Place("asset" if folders[0] == "assets" else "task", owner, key))
