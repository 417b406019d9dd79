"""What the tests of the documentation read: pages, and the blocks and links on them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DOCS", "PAGES", "ROOT", "Block", "blocks_of", "without_blocks"]

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]

_FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """Be a code block.

    :param page: the page.
    :param line: where it begins.
    :param language: what the fence says.
    :param text: what is inside.
    """

    page: Path
    line: int
    language: str
    text: str

    @property
    def where(self) -> str:
        """Return page and line."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    """Give the blocks of a page, from the top.

    :param page: the page.
    """
    text = page.read_text()
    for match in _FENCE.finditer(text):
        yield Block(page, text[: match.start()].count("\n") + 1, match[1], match[2])


def without_blocks(page: Path) -> str:
    """Give the prose of a page.

    :param page: the page.
    """
    return _FENCE.sub("", page.read_text())
