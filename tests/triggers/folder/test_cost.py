from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from triggers.sources.folder import scanner as module
from triggers.sources.folder.scanner import FileVersion, FolderScanner

from .support import MTIME, Disk, names, still, write


class TestCost:
    """A listing costs 0.1 s by the timer here, so that the next full look is due after five seconds."""

    @pytest.fixture
    def big(self, tmp_path: Path, disk: Disk) -> FolderScanner:
        disk.cost = 0.1
        for number in range(20):
            write(tmp_path / f"file-{number}")
        scanner = FolderScanner(tmp_path, settle=0, timer=disk.timer)
        look = scanner.look(0.0)
        assert (len(look.complete), look.next_at) == (20, 1.0)
        for now in (1.0, 2.0, 3.0):
            assert scanner.look(now).complete == []
        disk.reset()
        return scanner

    def test_an_idle_cheap_look_costs_one_stat(self, big: FolderScanner, disk: Disk) -> None:
        look = big.look(4.5)
        assert (len(disk.stats), disk.listings, look.next_at) == (1, [], 5.0)

    def test_a_root_come_back_is_looked_at_in_full(self, big: FolderScanner, tmp_path: Path) -> None:
        tmp_path.rename(tmp_path.with_name("away"))
        assert isinstance(big.look(4.0).root_problem, FileNotFoundError)
        tmp_path.with_name("away").rename(tmp_path)
        write(tmp_path / "file-1", 2)
        assert names(big.look(4.1)) == [b"file-1"]

    def test_removed_directories_are_forgotten(self, tmp_path: Path, disk: Disk) -> None:
        scanner = FolderScanner(tmp_path, recursive=True, timer=disk.timer)
        (tmp_path / "d" / "e").mkdir(parents=True)
        scanner.look(0.0)
        shutil.rmtree(tmp_path / "d")
        scanner.look(1.0)
        disk.reset()
        scanner.look(1.5)
        assert len(disk.stats) == 1

    def test_only_new_names_are_reported_between_full_looks(self, big: FolderScanner, tmp_path: Path) -> None:
        write(tmp_path / "new")
        write(tmp_path / "file-1", 2)
        (tmp_path / "file-2").unlink()
        cheap, full = big.look(4.0), big.look(5.0)
        assert (names(cheap), cheap.gone) == ([b"new"], [])
        assert (full.complete, full.gone) == ([FileVersion(b"file-1", 2, MTIME)], [b"file-2"])
        assert full.next_at == 6.0

    def test_unsettled_files_are_looked_at_again_by_cheap_looks(self, tmp_path: Path, disk: Disk) -> None:
        (tmp_path / "d").mkdir()
        write(tmp_path / "d" / "a")
        write(tmp_path / "b")
        disk.cost = 100.0
        scanner = FolderScanner(tmp_path, recursive=True, timer=disk.timer)
        assert scanner.look(0.0).next_at == 1.0
        write(tmp_path / "d" / "a", 2)
        disk.cost = 0.0
        assert (scanner.look(200.5).pending, names(scanner.look(201.0))) == (2, [b"b"])
        assert scanner.look(201.5).complete == [FileVersion(b"d/a", 2, MTIME)]
        write(tmp_path / "c")
        assert scanner.look(202.0).pending == 1
        (tmp_path / "c").unlink()
        assert scanner.look(202.5).pending == 0

    def test_a_small_folder_is_looked_at_in_full_every_time(self, tmp_path: Path, disk: Disk) -> None:
        disk.cost = 0.02
        write(tmp_path / "a")
        scanner = FolderScanner(tmp_path, settle=0, timer=disk.timer)
        for now in range(5):
            write(tmp_path / "a", now)
            assert len(scanner.look(float(now)).complete) == 1
        write(tmp_path / "a", 9)
        assert scanner.look(4.5).complete == []

    def test_a_directory_is_listed_again_until_its_stamp_is_safe(
        self, big: FolderScanner, tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        coarse = [MTIME]

        def stamp(status: os.stat_result) -> tuple[int, ...]:
            return status.st_dev, status.st_ino, coarse[0]

        monkeypatch.setattr(module, "_stamp", stamp)
        for now, expected in ((4.0, 1), (4.1, 1), (5.9, 1), (6.2, 1), (6.3, 0), (9.0, 0)):
            write(tmp_path / f"at-{now}")
            disk.reset()
            look = big.look(now)
            if now == 5.9:  # the full look
                assert names(look) == [b"at-5.9"]
                continue
            assert (names(look), len(disk.listings)) == ([b"at-%.1f" % now] * expected, expected)
        coarse[0] += 1
        assert names(big.look(9.1)) == [b"at-6.3", b"at-9.0"]

    def test_a_stamp_first_seen_late_in_a_long_look_is_safe_later(
        self, tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stamp(status: os.stat_result) -> tuple[int, ...]:
            return status.st_dev, status.st_ino

        monkeypatch.setattr(module, "_stamp", stamp)
        (tmp_path / "d").mkdir()
        disk.cost = 10.0
        scanner = FolderScanner(tmp_path, recursive=True, settle=0, timer=disk.timer)
        scanner.look(0.0)
        scanner.look(10.0)
        write(tmp_path / "d" / "new")
        assert names(scanner.look(11.0)) == [b"d/new"]

    def test_a_stamp_set_back_is_noticed(self, big: FolderScanner, tmp_path: Path) -> None:
        before = tmp_path.stat()
        write(tmp_path / "new")
        os.utime(tmp_path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert names(big.look(4.0)) == [b"new"]

    def test_new_directories_are_found_by_cheap_looks(self, tmp_path: Path, disk: Disk) -> None:
        disk.cost = 100.0
        scanner = FolderScanner(tmp_path, recursive=True, settle=0, timer=disk.timer)
        scanner.look(0.0)
        (tmp_path / "d" / "e").mkdir(parents=True)
        write(tmp_path / "d" / "e" / "a")
        assert names(scanner.look(1.0)) == [b"d/e/a"]
        write(tmp_path / "d" / "e" / "b")
        assert names(scanner.look(2.0)) == [b"d/e/b"]
        (tmp_path / "d").rename(tmp_path / "f")
        look = scanner.look(3.0)
        assert (sorted(names(look)), look.gone, look.problems) == ([b"f/e/a", b"f/e/b"], [], [])

    def test_a_long_look_does_not_shorten_the_settling(self, tmp_path: Path, disk: Disk) -> None:
        write(tmp_path / "a")
        disk.cost = 10.0
        scanner = FolderScanner(tmp_path, timer=disk.timer)
        scanner.look(0.0)
        disk.cost = 0.0
        assert scanner.look(10.0).complete == []
        assert names(scanner.look(11.0)) == [b"a"]

    def test_many_unsettled_files_are_not_all_looked_at_early(
        self, tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_EARLY_STATS", 3)
        for number in range(10):
            write(tmp_path / f"{number}")
        disk.cost = 1.0
        scanner = FolderScanner(tmp_path, settle=20.0, timer=disk.timer)
        scanner.look(0.0)
        disk.reset()
        scanner.look(1.0)
        assert len(disk.stats) == 1 + 3
        assert len(scanner.look(21.0).complete) == 10

    def test_quiet_looks_at_many_directories_are_paced(
        self, tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        disk.cost = 100.0
        scanner = FolderScanner(tmp_path, settle=0, timer=disk.timer)
        assert [scanner.look(now).next_at for now in (0.0, 3.0)] == [1.0, 4.0]
        costs = iter([0.1, 4.0, 0.2, 0.2])

        def slow(status: os.stat_result) -> tuple[int, ...]:
            disk.seconds += next(costs)
            return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns

        monkeypatch.setattr(module, "_stamp", slow)
        waits = [round(scanner.look(now).next_at - now, 6) for now in (4.0, 10.0, 20.0, 30.0)]
        assert waits == [5.0, 5.0, 10.0, 10.0]

    def test_the_next_look_is_for_the_file_that_is_due_first(self, tmp_path: Path) -> None:
        write(tmp_path / "a")
        write(tmp_path / "b")
        scanner = FolderScanner(tmp_path, settle=0.6, timer=still)
        assert scanner.look(0.0).next_at == 0.6
        for name in os.listdir(tmp_path)[:1]:
            write(tmp_path / name, 2)
        assert scanner.look(0.3).next_at == 0.6

    def test_a_tiny_settling_time_is_no_busy_loop(self, tmp_path: Path) -> None:
        write(tmp_path / "a")
        assert FolderScanner(tmp_path, settle=1e-9, timer=still).look(0.0).next_at == 0.05
