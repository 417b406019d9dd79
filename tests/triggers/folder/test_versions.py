from __future__ import annotations

from pathlib import Path

import pytest

from triggers.sources.folder import scanner as module
from triggers.sources.folder.scanner import FileVersion, FolderScanner

from .support import MTIME, names, still, write


class TestVersions:
    def test_complete_after_two_looks_that_agree_settle_seconds_apart(self, tmp_path: Path) -> None:
        write(tmp_path / "a", 5)
        scanner = FolderScanner(tmp_path, settle=2.0, timer=still)
        first, early, due, later = (scanner.look(now) for now in (10.0, 11.9, 12.0, 13.0))
        assert (first.complete, first.pending, first.next_at) == ([], 1, 11.0)
        assert (early.complete, early.pending, early.next_at) == ([], 1, 12.0)
        assert (due.complete, due.pending) == ([FileVersion(b"a", 5, MTIME)], 0)
        assert (later.complete, later.gone, later.problems, later.root_problem) == ([], [], [], None)

    def test_no_settling_is_complete_at_first_sight(self, tmp_path: Path) -> None:
        write(tmp_path / "a")
        scanner = FolderScanner(tmp_path, settle=0, timer=still)
        assert names(scanner.look(0.0)) == [b"a"]
        write(tmp_path / "a", 2)
        look = scanner.look(1.0)
        assert (look.complete, look.pending) == ([FileVersion(b"a", 2, MTIME)], 0)

    def test_a_growing_file_waits_until_it_stands_still(self, tmp_path: Path) -> None:
        scanner = FolderScanner(tmp_path, timer=still)
        for second in range(5):
            write(tmp_path / "a", 1 + second)
            assert scanner.look(float(second)).complete == []
        write(tmp_path / "a", 5, MTIME + 1)
        assert scanner.look(5.0).complete == []
        assert scanner.look(6.0).complete == [FileVersion(b"a", 5, MTIME + 1)]

    def test_each_version_is_reported_once_whatever_its_date(self, tmp_path: Path) -> None:
        scanner = FolderScanner(tmp_path, settle=0, timer=still)
        dates = [MTIME, MTIME - 10**18, 0, -(10**9), MTIME + 10**18]
        for now, mtime_ns in enumerate(dates):
            write(tmp_path / "a", 1, mtime_ns)
            assert scanner.look(float(now)).complete == [FileVersion(b"a", 1, mtime_ns)]
            assert scanner.look(now + 0.5).complete == []

    def test_a_change_taken_back_before_it_settled_is_nothing(self, tmp_path: Path) -> None:
        write(tmp_path / "a")
        scanner = FolderScanner(tmp_path, known=[(b"a", 1, MTIME)], timer=still)
        write(tmp_path / "a", 2)
        assert scanner.look(0.0).pending == 1
        write(tmp_path / "a", 1)
        assert scanner.look(1.0).pending == 0
        assert scanner.look(2.0).complete == []

    def test_order_is_by_mtime_then_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_SORT_RUN", 2)
        for name, mtime_ns in (("b", 2), ("c", 1), ("a", 2), ("d", 1), ("e", 0)):
            write(tmp_path / name, 1, mtime_ns)
        assert names(FolderScanner(tmp_path, settle=0).look(0.0)) == [b"e", b"c", b"d", b"a", b"b"]

    def test_known_versions_are_not_reported_again(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            write(tmp_path / name)
        scanner = FolderScanner(tmp_path, settle=0, known=[(b"a", 1, MTIME), (b"b", 2, MTIME), (b"c", 1, 1)])
        look = scanner.look(0.0)
        assert (look.complete, look.gone) == ([FileVersion(b"b", 1, MTIME)], [b"c"])

    def test_gone_is_told_once_and_forgotten(self, tmp_path: Path) -> None:
        for name in ("b", "a"):
            write(tmp_path / name)
        scanner = FolderScanner(tmp_path, settle=0, timer=still)
        scanner.look(0.0)
        (tmp_path / "a").unlink()
        (tmp_path / "b").unlink()
        (tmp_path / "b").mkdir()
        assert scanner.look(1.0).gone == [b"a", b"b"]
        assert scanner.look(2.0).gone == []
        write(tmp_path / "a")
        assert names(scanner.look(3.0)) == [b"a"]

    def test_created_only_reports_the_first_version_ever(self, tmp_path: Path) -> None:
        scanner = FolderScanner(tmp_path, created_only=True, known=[(b"old", 1, 1)], timer=still)
        write(tmp_path / "old", 2)
        write(tmp_path / "a")
        scanner.look(0.0)
        assert names(scanner.look(1.0)) == [b"a"]
        write(tmp_path / "a", 2)
        assert [(look.complete, look.pending) for look in map(scanner.look, (2.0, 3.0))] == [([], 0)] * 2
        (tmp_path / "a").unlink()
        assert scanner.look(4.0).gone == []
        write(tmp_path / "a", 3)
        assert [(look.complete, look.pending) for look in map(scanner.look, (5.0, 6.0))] == [([], 0)] * 2

    def test_an_interrupted_look_loses_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(tmp_path / "a")
        scanner = FolderScanner(tmp_path, timer=still)
        scanner.look(0.0)

        def fail(found: object) -> None:
            raise MemoryError

        with monkeypatch.context() as patch:
            patch.setattr(module, "_in_order", fail)
            with pytest.raises(MemoryError):
                scanner.look(1.0)
        assert names(scanner.look(2.0)) == [b"a"]
