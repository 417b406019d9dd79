"""Every code block of the README and of docs/ runs: Python as a script, shell word for word; JSON and TOML parse."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncstore import MetastoreBackend
from tests.postgres.databases import Databases

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://)([^)#]*)(?:#[^)]*)?\)")
# Set-up, the suite itself and commands that run until they are stopped have tests of their own.
SHELL_ELSEWHERE = ("python3 -m venv", "asyncstore watch", "asyncstore trigger", "python -m benchmarks")


def blocks() -> Iterator[tuple[str, str, str]]:
    for page in PAGES:
        text = page.read_text()
        for match in FENCE.finditer(text):
            line = text[: match.start()].count("\n") + 1
            yield f"{page.relative_to(ROOT)}:{line}", match[1], match[2]


BLOCKS = {where: (language, code) for where, language, code in blocks()}


@pytest.fixture(scope="module")
def database(postgres: Databases) -> Iterator[str]:
    """Give a database with the tables; one page tells how to add them, in a block of its own."""
    name = postgres.create_database()
    url = postgres.url(name)
    asyncio.run(MetastoreBackend(url).aupgrade())
    yield url
    postgres.drop_database(name)


def run(*command: str, cwd: Path, **more: str) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environ = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), **more}
    done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("where", BLOCKS)
def test_a_code_block_does_what_the_page_says(where: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    language, code = BLOCKS[where]
    more = {"DATABASE_URL": str(request.getfixturevalue("database"))} if "DATABASE_URL" in code else {}
    if language == "python":
        (tmp_path / "block.py").write_text(code)
        run(sys.executable, "-W", "error", "block.py", cwd=tmp_path, **more)
    elif language == "sh":
        if not any(elsewhere in code for elsewhere in SHELL_ELSEWHERE):
            run("bash", "-euc", code, cwd=tmp_path, **more)
    elif language == "json":
        json.loads(code)
    elif language == "toml":
        tomllib.loads(code)
    else:
        assert language == "text", f"{where}: a block of {language or 'no language'} is run by nothing"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), f"{page}: {target}"


def test_the_page_of_the_readme_fits_and_names_two_commands() -> None:
    commands = [code for where, (language, code) in BLOCKS.items() if where.startswith("README") and language == "sh"]
    assert [len(code.strip().splitlines()) for code in commands] == [1, 1]
