from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from triggers.sources.folder.scanner import FileVersion, FolderScanner

from .support import MTIME, Disk, names, still, write


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
