from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from triggers.sources.folder.scanner import FolderScanner

from .support import MTIME, Disk, names, still, write


class TestTrouble:
    def test_root_away_and_back(self, tmp_path: Path) -> None:
        root, away = tmp_path / "root", tmp_path / "away"
        scanner = FolderScanner(root, known=[(b"old", 1, MTIME)], timer=still)
        look = scanner.look(0.0)
        assert isinstance(look.root_problem, FileNotFoundError)
        assert (look.complete, look.gone, look.pending, look.next_at) == ([], [], 0, 1.0)
        root.mkdir()
        write(root / "old")
        write(root / "new")
        assert scanner.look(1.0).pending == 1
        root.rename(away)
        look = scanner.look(2.0)
        assert isinstance(look.root_problem, FileNotFoundError)
        assert (look.gone, look.pending, look.next_at) == ([], 1, 3.0)
        root.write_bytes(b"")
        assert isinstance(scanner.look(3.0).root_problem, NotADirectoryError)
        root.unlink()
        shutil.copytree(away, root)
        look = scanner.look(4.0)
        assert (names(look), look.gone, look.root_problem) == ([b"new"], [], None)
        (root / "old").unlink()
        assert scanner.look(5.0).gone == [b"old"]

    def test_a_root_that_cannot_be_listed_is_tried_at_every_look(self, tmp_path: Path, disk: Disk) -> None:
        root = os.fsencode(tmp_path)
        write(tmp_path / "a")
        scanner = FolderScanner(tmp_path, settle=0, known=[(b"b", 1, 1)], timer=disk.timer)
        disk.denied[root] = errno.EACCES
        for now in (0.0, 0.1, 1.1):
            look = scanner.look(now)
            assert isinstance(look.root_problem, PermissionError)
            assert (look.complete, look.gone) == ([], [])
        disk.denied.clear()
        disk.breaks_off[root] = errno.EIO
        look = scanner.look(2.0)
        assert (look.root_problem and look.root_problem.errno, look.complete, look.gone) == (errno.EIO, [], [])
        disk.breaks_off.clear()
        look = scanner.look(3.0)
        assert (names(look), look.gone, look.root_problem) == ([b"a"], [b"b"], None)

    def test_nothing_is_gone_from_a_root_that_goes_while_it_is_looked_at(self, tmp_path: Path, disk: Disk) -> None:
        root, away = tmp_path / "root", tmp_path / "away"
        root.mkdir()
        write(root / "a")
        scanner = FolderScanner(root, settle=0, timer=disk.timer)
        scanner.look(0.0)
        for now, replaced in ((1.0, False), (3.0, True)):

            def leave(replaced: bool = replaced) -> None:
                root.rename(away)
                if replaced:
                    root.mkdir()

            disk.after_listing = leave
            assert scanner.look(now).gone == []
            disk.after_listing = lambda: None
            shutil.rmtree(root, ignore_errors=True)
            away.rename(root)
            look = scanner.look(now + 1)
            assert (look.complete, look.gone, look.root_problem) == ([], [], None)

    @pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
    @pytest.mark.parametrize("breaks_off", [False, True])
    def test_an_unreadable_subdirectory(self, tmp_path: Path, disk: Disk, code: int, breaks_off: bool) -> None:
        (tmp_path / "bad" / "below").mkdir(parents=True)
        (tmp_path / "good").mkdir()
        known = [(b"bad/a", 1, MTIME), (b"bad/below/a", 1, MTIME), (b"good/gone", 1, MTIME), (b"badly", 1, 1)]
        write(tmp_path / "good" / "a")
        scanner = FolderScanner(tmp_path, recursive=True, settle=0, known=known, timer=disk.timer)
        bad = os.fsencode(tmp_path / "bad")
        trouble = disk.breaks_off if breaks_off else disk.denied
        trouble[bad] = code
        disk.cost = 10.0
        look = scanner.look(0.0)
        assert (names(look), look.gone) == ([b"good/a"], [b"badly", b"good/gone"])
        expected = [(b"bad", str(OSError(code, os.strerror(code), bad)))]
        cheap = scanner.look(5.0)
        assert (look.problems, cheap.problems, look.root_problem) == (expected, expected, None)
        trouble.clear()
        write(tmp_path / "bad" / "below" / "new")
        look = scanner.look(6.0)
        assert (names(look), look.gone, look.problems) == ([b"bad/below/new"], [], [])
        assert scanner.look(1e6).gone == [b"bad/a", b"bad/below/a"]

    def test_a_file_that_cannot_be_stated_is_not_gone(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            write(tmp_path / name)
        scanner = FolderScanner(tmp_path, known=[(b"a", 1, MTIME)], timer=still)
        scanner.look(0.0)
        for name in ("a", "b"):
            (tmp_path / name).unlink()
            (tmp_path / name).symlink_to("n" * 256)
        look = scanner.look(1.0)
        assert (look.complete, look.gone, look.pending) == ([], [], 0)
        assert sorted(path for path, _ in look.problems) == [b"a", b"b"]
        for number in range(200):
            (tmp_path / f"n{number}").symlink_to("n" * 256)
        assert len(scanner.look(2.0).problems) == 100

    def test_a_file_gone_between_listing_and_stat_is_passed_over(self, tmp_path: Path, disk: Disk) -> None:
        write(tmp_path / "a")
        write(tmp_path / "b")
        disk.after_listing = lambda: (tmp_path / "a").unlink(missing_ok=True)
        look = FolderScanner(tmp_path, settle=0).look(0.0)
        assert (names(look), look.problems) == ([b"b"], [])

    def test_a_name_missing_from_a_listing_is_not_gone_while_the_file_is_there(self, tmp_path: Path) -> None:
        write(tmp_path / "a.csv")
        scanner = FolderScanner(tmp_path, pattern="*.txt", known=[(b"a.csv", 1, MTIME), (b"b.csv", 1, 1)])
        assert scanner.look(0.0).gone == [b"b.csv"]
