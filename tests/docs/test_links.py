"""Links between pages lead somewhere, anchors included; those to elsewhere are only looked at. Nothing is fetched."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.docs.pages import DOCS, PAGES, ROOT, without_blocks

LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def links(page: Path) -> list[tuple[str, str, str]]:
    return LINK.findall(without_blocks(page))


def anchors(page: Path) -> set[str]:
    """Give the anchors of a page's headings, as forges and the site make them."""
    seen: Counter[str] = Counter()
    found: set[str] = set()
    for heading in HEADING.findall(without_blocks(page)):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        found.add(slug if not seen[slug] else f"{slug}-{seen[slug]}")
        seen[slug] += 1
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for _, _, link in links(page):
        if urlsplit(link).scheme:
            continue
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        assert file.is_file(), f"{page}: {link}"
        assert not anchor or anchor in anchors(file), f"{page}: {link}: {sorted(anchors(file))}"
        assert page.parent == ROOT or file.is_relative_to(DOCS), f"{page}: {link} is not on the site"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_elsewhere_are_safe_and_stand_once_on_a_page(page: Path) -> None:
    elsewhere = [link for _, _, link in links(page) if urlsplit(link).scheme]
    assert all(urlsplit(link).scheme == "https" and urlsplit(link).hostname for link in elsewhere)
    assert len(set(elsewhere)) == len(elsewhere), [link for link, times in Counter(elsewhere).items() if times > 1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pictures_say_what_they_show(page: Path) -> None:
    assert all(len(text) > 10 for is_picture, text, _ in links(page) if is_picture)


@pytest.mark.parametrize("page", [page for page in PAGES if page.is_relative_to(DOCS)], ids=lambda page: page.stem)
def test_the_index_of_its_folder_leads_to_each_page(page: Path) -> None:
    above = page.parent / "index.md" if page.stem != "index" else page.parent.parent / "index.md"
    if page != DOCS / "index.md":
        assert page in {(above.parent / link.partition("#")[0]).resolve() for _, _, link in links(above)}, f"{above}"


@pytest.mark.parametrize("picture", sorted((DOCS / "pictures").glob("*.svg")), ids=lambda picture: picture.stem)
def test_a_drawing_can_be_read_in_light_and_dark_and_is_on_a_page(picture: Path) -> None:
    text = picture.read_text()
    assert "prefers-color-scheme: dark" in text
    assert 'class="page"' in text  # its own ground, whatever the page's is
    assert "<title" in text
    assert any(picture.name in link for page in PAGES for is_picture, _, link in links(page) if is_picture)


def test_the_links_of_a_text_are_found() -> None:
    assert LINK.findall("[`a[b]`](x.md#y) ![alt](z.svg)") == [("", "`a[b]`", "x.md#y"), ("!", "alt", "z.svg")]
