from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,  # pyright: ignore[reportUnknownVariableType]
)

from triggers.sources.folder.scanner import FolderScanner

from .support import MTIME, write

PATHS = [b"a", b"b\n", b"\xff", b"d/a", b"d/e/a", b"f/a"]
Version = tuple[int, int]


class ScannerModel(RuleBasedStateMachine):
    """A folder as a dict: each version that two looks agree upon is reported once, and each absence."""

    @initialize(
        settle=st.sampled_from([0.0, 1.0, 2.5]),
        created_only=st.booleans(),
        recursive=st.booleans(),
        exact=st.booleans(),
    )
    def start(self, settle: float, created_only: bool, recursive: bool, exact: bool) -> None:
        self.root = os.fsencode(tempfile.mkdtemp())
        self.settle, self.created_only, self.recursive, self.exact = settle, created_only, recursive, exact
        self.now = self.seconds = 0.0
        self.files: dict[bytes, Version] = {}
        self.known: dict[bytes, Version] = {}
        self.restart()

    def timer(self) -> float:
        # When it stands still every look is full and the model foretells it; when it runs most looks are cheap.
        self.seconds += 0.0 if self.exact else 1.0
        return self.seconds

    @rule()
    def restart(self) -> None:
        self.pending: dict[bytes, tuple[Version, float]] = {}
        self.history: list[tuple[float, dict[bytes, Version]]] = []
        self.scanner = FolderScanner(
            Path(os.fsdecode(self.root)),
            settle=self.settle,
            created_only=self.created_only,
            recursive=self.recursive,
            known=[(path, *version) for path, version in self.known.items()],
            timer=self.timer,
        )

    @rule(path=st.sampled_from(PATHS), size=st.integers(0, 2), age=st.integers(0, 2), replace=st.booleans())
    def write(self, path: bytes, size: int, age: int, replace: bool) -> None:
        where = os.path.join(self.root, path)
        os.makedirs(os.path.dirname(where), exist_ok=True)
        write(where + b".tmp" if replace else where, size, MTIME - age)
        if replace:
            os.replace(where + b".tmp", where)
        self.files[path] = (size, MTIME - age)

    @precondition(lambda self: self.files)
    @rule(data=st.data(), to=st.none() | st.sampled_from(PATHS))
    def move_or_remove(self, data: st.DataObject, to: bytes | None) -> None:
        source = data.draw(st.sampled_from(sorted(self.files)))
        version = self.files.pop(source)
        if to is None:
            os.unlink(os.path.join(self.root, source))
            return
        os.makedirs(os.path.dirname(os.path.join(self.root, to)), exist_ok=True)
        os.replace(os.path.join(self.root, source), os.path.join(self.root, to))
        self.files[to] = version

    @rule(top=st.sampled_from([b"d", b"f"]))
    def remove_tree(self, top: bytes) -> None:
        shutil.rmtree(os.path.join(self.root, top), ignore_errors=True)
        self.files = {path: version for path, version in self.files.items() if not path.startswith(top + b"/")}

    def foretell(self, watched: dict[bytes, Version]) -> dict[bytes, Version]:
        complete: dict[bytes, Version] = {}
        self.pending = {path: seen for path, seen in self.pending.items() if path in watched}
        for path, version in watched.items():
            if self.known.get(path) == version or (self.created_only and path in self.known):
                self.pending.pop(path, None)
                continue
            if path not in self.pending or self.pending[path][0] != version:
                self.pending[path] = (version, self.now)
            if self.now >= self.pending[path][1] + self.settle:
                complete[path] = version
                del self.pending[path]
        return complete

    @rule(seconds=st.sampled_from([1.0, 1.5, 3.0]))
    def look(self, seconds: float) -> None:
        self.now += seconds
        watched = {path: version for path, version in self.files.items() if self.recursive or b"/" not in path}
        look = self.scanner.look(self.now)
        self.history.append((self.now, watched))
        complete = {found.path: (found.size, found.mtime_ns) for found in look.complete}
        assert [(found.mtime_ns, found.path) for found in look.complete] == sorted(
            (mtime_ns, path) for path, (_, mtime_ns) in complete.items()
        )
        assert (look.root_problem, look.problems) == (None, [])
        if self.exact:
            assert complete == self.foretell(watched)
            assert look.pending == len(self.pending)
            assert look.gone == ([] if self.created_only else sorted(self.known.keys() - watched.keys()))
        for path, version in complete.items():
            assert watched[path] == version != self.known.get(path)
            assert not (self.created_only and path in self.known)
            assert any(at + self.settle <= self.now and then.get(path) == version for at, then in self.history)
        for path in look.gone:
            assert path not in watched
            del self.known[path]
        self.known |= complete

    def teardown(self) -> None:
        for _ in range(3):
            self.look(1e6)
        now = self.history[-1][1]
        assert self.known.keys() >= now.keys() if self.created_only else self.known == now
        shutil.rmtree(self.root)


def test_model() -> None:
    checks = settings(max_examples=200, stateful_step_count=60, deadline=None, derandomize=True, database=None)
    run_state_machine_as_test(ScannerModel, settings=checks)
