from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
DATABASES = ["SQLite", "PostgreSQL"]
SITES = ["sqlite", "postgresql"]
TINY = {
    "rounds": "1",
    "seconds": "0.02",
    "rows": "50",
    "levels": "1,256",
    "growth-rows": "20,200",
    "garbage-rows": "400",
    "fresh-rows": "100",
    "batch": "50",
    "files": "5",
    "idle-files": "5",
    "idle-seconds": "0.1",
    "watchers": "20",
}


class Outcome:
    def __init__(self, folder: Path, done: subprocess.CompletedProcess[str], left: list[str]) -> None:
        self.folder = folder
        self.done = done
        self.left = left
        self.json: dict[str, Any] = json.loads((folder / "found.json").read_text())


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    folder = tmp_path_factory.mktemp("benchmarks")
    arguments = [text for name, value in TINY.items() for text in (f"--{name}", value)]
    arguments += ["--json", str(folder / "found.json"), "--charts", str(folder / "charts")]
    url = os.environ.get("ASYNCSTORE_TEST_POSTGRES_URL")
    with tempfile.TemporaryDirectory(prefix="asyncstore-test-") as temporary:
        Path(temporary).chmod(0o755)  # the server may run as another user
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks", "--quick", *arguments, *(["--postgres-url", url] if url else [])],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": temporary},
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        yield Outcome(folder, done, [path.name for path in Path(temporary).iterdir()])


def test_every_section_gives_data(outcome: Outcome) -> None:
    sections = outcome.json["sections"]
    assert sorted(sections) == ["fleet", "garbage", "growth", "idle", "offload", "operations", "sync", "watch"]
    for name in ("operations", "sync", "growth", "garbage", "watch", "fleet", "offload"):
        assert list(sections[name]) == DATABASES, name
    assert outcome.json["failures"] == []


def test_both_accessors_and_the_bare_drivers_are_measured_at_every_concurrency(outcome: Outcome) -> None:
    for database, bare in zip(DATABASES, ["raw aiosqlite, one hop", "raw asyncpg, its pool of 10"], strict=True):
        cells = outcome.json["sections"]["operations"][database]["cells"]
        found = {(cell["contender"], cell["operation"], cell["concurrency"]) for cell in cells}
        for name in ("asyncstore, asset", "asyncstore, task", bare):
            for kind in ("get", "set"):
                assert {(name, kind, 1), (name, kind, 256)} <= found


def test_a_peer_that_is_not_installed_is_left_out_with_its_reason(outcome: Outcome) -> None:
    for database in DATABASES:
        found = outcome.json["sections"]["operations"][database]
        measured = {cell["contender"] for cell in found["cells"]}
        peers = {name for name in measured | set(found["left_out"]) if name.startswith("py-key-value-aio")}
        assert len(peers) == 1
        for name in peers - measured:
            assert "No module named" in found["left_out"][name]


def test_every_target_has_a_ratio(outcome: Outcome) -> None:
    targets = outcome.json["targets"]
    assert all(target["found"] is not None for target in targets)
    assert {target["bound"] for target in targets} == {0.3, 0.85, 0.9, 3.0, 5.5, 3.5, 0.6, 10.0, 4.0, 1.2, 2.0, 8.0}


def test_the_table_of_targets_comes_first(outcome: Outcome) -> None:
    headings = [line for line in outcome.done.stdout.splitlines() if line.startswith("#")]
    assert headings[:2] == ["# Measurements", "## Targets"]
    assert "## PostgreSQL, garbage collection" in headings
    tables = [line for line in outcome.done.stdout.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)


def test_the_charts_can_be_parsed_and_name_every_line(outcome: Outcome) -> None:
    charts = sorted((outcome.folder / "charts").glob("*.svg"))
    kinds = {f"{what}-{site}-{kind}" for what in ("throughput", "latency") for site in SITES for kind in ("get", "set")}
    assert {chart.stem for chart in charts} == kinds | {f"growth-{site}" for site in SITES}
    for chart in charts:
        root = ElementTree.parse(chart).getroot()
        texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
        assert {text.partition(",")[0] for text in texts if text} >= {"asyncstore"}


def test_nothing_stays(outcome: Outcome) -> None:
    assert outcome.left == []
    assert "Traceback" not in outcome.done.stderr


def test_progress_is_told_on_stderr_only(outcome: Outcome) -> None:
    assert "[garbage, SQLite] filling" in outcome.done.stderr
    assert "[garbage" not in outcome.done.stdout
