from __future__ import annotations

import errno
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,  # pyright: ignore[reportUnknownVariableType]
)

from triggers.sources.folder import scanner as module
from triggers.sources.folder.scanner import FileVersion, FolderScanner, Look

MTIME = 1_700_000_000_000_000_000


def write(path: Path | bytes, size: int = 1, mtime_ns: int = MTIME) -> None:
    with open(path, "wb") as file:
        file.write(b"x" * size)
    os.utime(path, ns=(mtime_ns, mtime_ns))


def names(look: Look) -> list[bytes]:
    return [version.path for version in look.complete]


class Entries:
    """What os.scandir gives, from a list."""

    def __init__(self, entries: list[os.DirEntry[bytes]], failure: OSError | None) -> None:
        self.entries, self.failure = entries, failure

    def __enter__(self) -> Entries:
        return self

    def __exit__(self, *error: object) -> None: ...

    def __iter__(self) -> Iterator[os.DirEntry[bytes]]:
        yield from self.entries
        if self.failure:
            raise self.failure


class Disk:
    """The file system below os.scandir and os.stat: counts, costs time, denies, and changes at a bad moment."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        self.cost = 0.0
        self.stats: list[bytes] = []
        self.listings: list[bytes] = []
        self.denied: dict[bytes, int] = {}
        self.breaks_off: dict[bytes, int] = {}
        self.after_listing: Callable[[], None] = lambda: None
        self._scandir, self._stat = os.scandir, os.stat
        monkeypatch.setattr(os, "scandir", self.scandir)
        monkeypatch.setattr(os, "stat", self.stat)

    def timer(self) -> float:
        return self.seconds

    def scandir(self, path: bytes) -> Entries:
        self.seconds += self.cost
        self.listings.append(path)
        if path in self.denied:
            raise OSError(self.denied[path], os.strerror(self.denied[path]), path)
        with self._scandir(path) as entries:
            listed = list(entries)
        self.after_listing()
        code = self.breaks_off.get(path)
        return Entries(listed, OSError(code, os.strerror(code), path) if code else None)

    def stat(self, path: bytes, *, follow_symlinks: bool = True) -> os.stat_result:
        self.stats.append(path)
        return self._stat(path, follow_symlinks=follow_symlinks)

    def reset(self) -> None:
        self.stats.clear()
        self.listings.clear()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def still() -> float:
    return 0.0


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


class TestWhichFiles:
    @pytest.mark.parametrize(
        "name", [b"new\nline", b"not-\xff\xfeutf8", b"n" * 255, "ä€😀".encode(), b"-rf *", b".hidden"]
    )
    def test_any_name(self, tmp_path: Path, name: bytes) -> None:
        (tmp_path / "d").mkdir()
        for path in (name, b"d/" + name):
            write(os.fsencode(tmp_path) + b"/" + path)
        scanner = FolderScanner(tmp_path, recursive=True)
        scanner.look(0.0)
        assert sorted(names(scanner.look(1.0))) == sorted([name, b"d/" + name])
        os.unlink(os.fsencode(tmp_path) + b"/" + name)
        assert scanner.look(2.0).gone == [name]

    @pytest.mark.parametrize(
        ("pattern", "expected"),
        [
            ("*", [b"X.csv", b"\xc3\xa9.csv", b"d/a.csv", b"d/e/a.csv", b"x.CSV", b"x\n.csv", b"x\xff.csv"]),
            ("*.csv", [b"X.csv", b"\xc3\xa9.csv", b"d/a.csv", b"d/e/a.csv", b"x\n.csv", b"x\xff.csv"]),
            ("?.csv", [b"X.csv", b"\xc3\xa9.csv", b"d/a.csv", b"d/e/a.csv"]),
            ("[!X].csv", [b"\xc3\xa9.csv", b"d/a.csv", b"d/e/a.csv"]),
            ("d/*.csv", [b"d/a.csv", b"d/e/a.csv"]),
            ("d/?.csv", [b"d/a.csv"]),
        ],
    )
    def test_pattern(self, tmp_path: Path, pattern: str, expected: list[bytes]) -> None:
        (tmp_path / "d" / "e").mkdir(parents=True)
        for path in (b"X.csv", b"x.CSV", b"x\n.csv", b"x\xff.csv", b"\xc3\xa9.csv", b"d/a.csv", b"d/e/a.csv"):
            write(os.fsencode(tmp_path) + b"/" + path)
        scanner = FolderScanner(tmp_path, pattern=pattern, recursive=True, settle=0)
        assert sorted(names(scanner.look(0.0))) == sorted(expected)

    def test_only_the_top_unless_recursive(self, tmp_path: Path) -> None:
        (tmp_path / "d").mkdir()
        write(tmp_path / "a")
        write(tmp_path / "d" / "b")
        assert names(FolderScanner(tmp_path, settle=0).look(0.0)) == [b"a"]
        assert names(FolderScanner(tmp_path, recursive=True, settle=0).look(0.0)) == [b"a", b"d/b"]

    def test_links(self, tmp_path: Path) -> None:
        root = tmp_path / "root"
        (root / "d").mkdir(parents=True)
        (tmp_path / "elsewhere").mkdir()
        write(tmp_path / "elsewhere" / "target", 7)
        (root / "file").symlink_to(tmp_path / "elsewhere" / "target")
        (root / "folder").symlink_to(tmp_path / "elsewhere")
        (root / "d" / "up").symlink_to(root)
        (root / "d" / "self").symlink_to(root / "d" / "self")
        (root / "broken").symlink_to(tmp_path / "nothing")
        scanner = FolderScanner(root, recursive=True, settle=0, timer=still)
        look = scanner.look(0.0)
        assert (look.complete, look.problems) == ([FileVersion(b"file", 7, MTIME)], [])
        write(tmp_path / "elsewhere" / "target", 8)
        assert scanner.look(1.0).complete == [FileVersion(b"file", 8, MTIME)]
        (tmp_path / "elsewhere" / "target").unlink()
        look = scanner.look(2.0)
        assert (look.gone, look.problems) == ([b"file"], [])

    def test_a_directory_replaced_by_a_link_is_not_followed(self, tmp_path: Path, disk: Disk) -> None:
        root, moved = tmp_path / "root", tmp_path / "moved"
        (root / "d" / "e").mkdir(parents=True)
        scanner = FolderScanner(root, recursive=True, settle=1, timer=disk.timer)
        write(root / "d" / "e" / "waiting")
        disk.cost = 100.0
        scanner.look(0.0)
        disk.cost = 0.0
        (root / "d").rename(moved)
        (root / "d").symlink_to(moved)
        write(moved / "new")
        write(moved / "e" / "new")
        looks = [scanner.look(now) for now in (1.0, 500.0, 501.0, 1e6, 1e6 + 1)]
        assert [(look.complete, look.pending, look.problems) for look in looks] == [([], 0, [])] * 5

    def test_sockets_and_fifos_are_passed_over(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        os.mkfifo("fifo")
        (tmp_path / "device").symlink_to(os.devnull)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("socket")
            look = FolderScanner(tmp_path, settle=0).look(0.0)
        assert (look.complete, look.problems, look.pending) == ([], [], 0)

    def test_exclude(self, tmp_path: Path) -> None:
        root = tmp_path / "root"
        (root / "d" / "e").mkdir(parents=True)
        (root / "dd").mkdir()
        for name in ("a", "aa", "d/a", "d/e/a", "dd/a"):
            write(root / name)
        (tmp_path / "link").symlink_to(root)
        for top in (root, tmp_path / "link"):
            for named in (root, tmp_path / "link"):
                exclude = [named / "a", named / "d", tmp_path / "unrelated"]
                scanner = FolderScanner(top, recursive=True, settle=0, exclude=exclude, timer=still)
                assert names(scanner.look(0.0)) == [b"aa", b"dd/a"]
                write(root / "d" / "e" / "b")
                assert scanner.look(1.0).complete == []

    def test_other_devices_are_entered(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "mounted").mkdir()
        write(tmp_path / "mounted" / "a")
        real = os.stat

        def stat(path: bytes, *, follow_symlinks: bool = True) -> os.stat_result:
            status = real(path, follow_symlinks=follow_symlinks)
            device = len(path)  # every directory is on a device of its own
            return os.stat_result((*status[:2], device, *status[3:10]))

        monkeypatch.setattr(os, "stat", stat)
        assert names(FolderScanner(tmp_path, recursive=True, settle=0).look(0.0)) == [b"mounted/a"]

    @pytest.mark.parametrize(
        "wrong",
        [
            {"settle": -1},
            {"settle": float("nan")},
            {"interval": 0},
            {"interval": float("inf")},
            {"factor": -1},
            {"exclude": [Path("relative")]},
            {"exclude": [Path("/folder")]},
            {"exclude": [Path("/")]},
        ],
    )
    def test_bad_arguments(self, wrong: dict[str, object]) -> None:
        with pytest.raises(ValueError, match=r"must be|is excluded"):
            FolderScanner(Path("/folder"), **wrong)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


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
