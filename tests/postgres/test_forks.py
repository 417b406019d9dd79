"""A process that is forked while a store is open: the child and its parent do not disturb each other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.postgres.processes import PATIENCE

ROOT = Path(__file__).parents[2]
# From Python 3.12 on a fork warns where there are threads; it is what these tests are about.
OPTIONS = ("-X", "dev", "-W", "error", "-W", "ignore:This process:DeprecationWarning")


def forked(url: str, what: str) -> dict[str, Any]:
    command = [sys.executable, *OPTIONS, "-m", "tests.postgres.fork_child", url, what]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("what", ["does nothing", "closes", "closes on a loop", "leaves the block"])
def test_a_child_that_closes_the_store_of_its_parent(what: str, database_url: str) -> None:
    found = forked(database_url, what)
    assert found["child"] == 0
    assert found["found"] == [1, 1, 2, 2, None]
    assert len(found["before"]) >= 3
    assert set(found["before"]) <= set(found["after"]), "the parent keeps every connection that it had"


def test_a_child_that_works_with_the_store_of_its_parent(database_url: str) -> None:
    found = forked(database_url, "works")
    assert found["child"] == 0
    assert found["found"] == [1, 1, 2, 2, 4]
    assert set(found["before"]) <= set(found["after"])
