"""Every code block of the README and of docs/ runs: Python as a script, shell word for word; JSON and TOML parse.

The blocks of the tutorial belong together, and have a test of their own.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncstore import MetastoreBackend
from tests.docs.pages import PAGES, ROOT, blocks_of
from tests.docs.tutorial import PAGE as TUTORIAL
from tests.postgres.databases import Databases

# What .ci/run does: set-up and the suite itself. What has tests of its own (test_running_commands.py for the pages on
# folders and machines): commands that run until they are stopped, and those that tell them what to do.
SHELL_ELSEWHERE = ("python3 -m venv", "asyncstore watch", "asyncstore trigger", "python -m benchmarks")
# What the build of the site runs: the reference, made from docstrings, and a page that holds another file.
DIRECTIVES = ("{eval-rst}", "{include}")

BLOCKS = {block.where: (block.language, block.text) for page in PAGES if page != TUTORIAL for block in blocks_of(page)}


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
    elif language not in DIRECTIVES:
        assert language == "text", f"{where}: a block of {language or 'no language'} is run by nothing"


def test_the_page_of_the_readme_fits_and_names_two_commands() -> None:
    commands = [code for where, (language, code) in BLOCKS.items() if where.startswith("README") and language == "sh"]
    assert [len(code.strip().splitlines()) for code in commands] == [1, 1]
