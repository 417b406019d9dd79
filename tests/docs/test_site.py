from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.site import find_faults

FIRST = '<article><h1 id="top">first</h1><a href="how/second.html#part">second</a></article>'
SECOND = '<article><h2 id="part">second</h2><a href="../index.html">first</a><img src="../p.svg"></article>'


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "how").mkdir()
    (tmp_path / "index.html").write_text(f'<link rel="stylesheet" href="a.css?v=1"><link rel="next" href="x">{FIRST}')
    (tmp_path / "how/second.html").write_text(f'<nav><a href="https://elsewhere.example/">a link</a></nav>{SECOND}')
    (tmp_path / "p.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    (tmp_path / "a.css").write_text("p { background: url(data:image/png;base64,AA==) }")
    return tmp_path


def test_a_whole_site_has_no_fault(site: Path) -> None:
    assert list(find_faults(site)) == []


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ('<script src="https://cdn.example/x.js"></script>', "loads https://cdn.example/x.js from elsewhere"),
        ('<link rel="stylesheet" href="//fonts.example/f">', "loads //fonts.example/f from elsewhere"),
        ("<style>@import 'https://fonts.example/f';</style>", "loads https://fonts.example/f from elsewhere"),
        ('<p style="background: url(https://x.example/y)">', "loads https://x.example/y from elsewhere"),
        ('<img src="gone.svg">', "loads gone.svg, which is not there"),
        ('<article><a href="gone.html">x</a></article>', "leads to gone.html, which is not there"),
        ('<article><a href="#gone">x</a></article>', "leads to #gone, which has no such anchor"),
    ],
)
def test_a_fault_of_a_page_is_found(site: Path, more: str, fault: str) -> None:
    page = site / "index.html"
    page.write_text(page.read_text() + more)
    assert list(find_faults(site)) == [f"index.html {fault}"]


def test_files_that_load_something_are_found(site: Path) -> None:
    (site / "a.css").write_text("@import url('https://fonts.example/f');")
    (site / "b.js").write_text('import("https://cdn.example/m.js")')
    assert list(find_faults(site)) == [
        "a.css loads https://fonts.example/f from elsewhere",
        "b.js loads https://cdn.example/m.js from elsewhere",
    ]


def test_dead_ends_are_found(site: Path) -> None:
    (site / "alone.html").write_text('<nav><a href="index.html">first</a></nav><article>text</article>')
    assert list(find_faults(site)) == ["alone.html is not reached from the first page", "alone.html leads nowhere"]
