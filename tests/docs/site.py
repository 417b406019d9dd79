"""Look over the built site: every page is reached, every page leads on, and no page loads anything from elsewhere.

usage: python -m tests.docs.site FOLDER
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["find_faults"]

#: Pages that Sphinx makes beside ours; the search and the index are found at the top of every page.
_MADE = frozenset({"genindex.html", "py-modindex.html", "search.html"})
#: What a page loads by itself, as opposed to links that a reader follows.
_LOADED = {
    "audio": "src",
    "embed": "src",
    "iframe": "src",
    "img": "src",
    "link": "href",
    "object": "data",
    "script": "src",
    "source": "src",
    "video": "src",
}
#: What `link` only says, and no browser loads.
_SAID = frozenset({"author", "canonical", "index", "next", "prev", "search", "up"})
_IN_STYLES = re.compile(r"""(?:url\(\s*["']?|@import\s+["'])([^"')\s;]+)""")
_OF_SCRIPTS = re.compile(r"""(?:import|fetch|importScripts)\s*\(\s*["']((?:https?:)?//[^"']+)""")


@dataclass(slots=True)
class Page:
    """Be what a page refers to: what it loads, and where its text leads."""

    loads: list[str] = field(default_factory=list[str])
    leads: list[str] = field(default_factory=list[str])
    anchors: set[str] = field(default_factory=set[str])


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()
        self._article = 0
        self._style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self._article += tag == "article"
        self._style = tag == "style"
        if anchor := values.get("id"):
            self.page.anchors.add(anchor)
        attribute = _LOADED.get(tag)
        target = None if attribute is None else values.get(attribute)
        if target and not (tag == "link" and set((values.get("rel") or "").split()) & _SAID):
            self.page.loads.append(target)
        if tag == "a" and self._article and (target := values.get("href")):
            self.page.leads.append(target)
        self.page.loads += _IN_STYLES.findall(values.get("style") or "")

    def handle_endtag(self, tag: str) -> None:
        self._article -= tag == "article"
        self._style = False

    def handle_data(self, data: str) -> None:
        if self._style:
            self.page.loads += _IN_STYLES.findall(data)


def _read(path: Path) -> Page:
    reader = _Reader()
    reader.feed(path.read_text())
    return reader.page


def _is_elsewhere(target: str) -> bool:
    parts = urlsplit(target)
    return bool(parts.netloc) or parts.scheme not in {"", "data"}


def _inner(folder: Path, path: Path, target: str) -> tuple[str, str]:
    """Give the page and the anchor that a link leads to, the page as a path below the folder."""
    parts = urlsplit(target)
    to = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    return to.relative_to(folder).as_posix() if to.is_relative_to(folder) else str(to), unquote(parts.fragment)


def find_faults(folder: Path) -> Iterator[str]:
    """Say what is wrong with a built site.

    :param folder: where it is.
    """
    folder = folder.resolve()
    pages = {path.relative_to(folder).as_posix(): _read(path) for path in sorted(folder.rglob("*.html"))}
    leads: dict[str, set[str]] = {}
    for name, page in pages.items():
        yield from (f"{name} loads {each} from elsewhere" for each in page.loads if _is_elsewhere(each))
        for each in page.loads:
            if not _is_elsewhere(each) and not each.startswith(("data:", "#")):
                loaded, _ = _inner(folder, folder / name, each)
                if not (folder / loaded).is_file():
                    yield f"{name} loads {each}, which is not there"
        leads[name] = set()
        for each in page.leads:
            if _is_elsewhere(each):
                continue
            to, anchor = _inner(folder, folder / name, each)
            if to not in pages:
                if not (folder / to).is_file():
                    yield f"{name} leads to {each}, which is not there"
            elif anchor and anchor not in pages[to].anchors:
                yield f"{name} leads to {each}, which has no such anchor"
            else:
                leads[name].add(to)
    for path in sorted([*folder.rglob("*.css"), *folder.rglob("*.js"), *folder.rglob("*.svg")]):
        pattern = _OF_SCRIPTS if path.suffix == ".js" else _IN_STYLES
        for each in pattern.findall(path.read_text()):
            if _is_elsewhere(each):
                yield f"{path.relative_to(folder).as_posix()} loads {each} from elsewhere"
    yield from _dead_ends(leads)


def _dead_ends(leads: dict[str, set[str]]) -> Iterator[str]:
    # By the text of pages alone; the list at the side is on all of them.
    reached = {"index.html"}
    found = ["index.html"]
    while found:
        fresh = leads.get(found.pop(), set()) - reached
        reached |= fresh
        found += fresh
    for name in leads.keys() - _MADE:
        if name not in reached:
            yield f"{name} is not reached from the first page"
        if not leads[name] - {name} - _MADE:
            yield f"{name} leads nowhere"


def main(folder: str) -> int:
    """Print the faults of a site; 1 where it has one.

    :param folder: where it is.
    """
    faults = list(find_faults(Path(folder)))
    print(*faults, sep="\n", end="\n" if faults else "")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
