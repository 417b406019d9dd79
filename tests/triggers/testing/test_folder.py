"""The folder watcher under crashes, on a real folder that changes while nobody watches."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from triggers import FolderTrigger
from triggers.testing import CrashReport, crash_everywhere_sync

OLD = 1_000_000_000


class Inbox:
    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, name: str, size: int, at: int) -> None:
        path = self.root / name
        path.write_text("x" * size)
        os.utime(path, (OLD + at, OLD + at))

    def begin(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir()
        for number in range(4):
            self.write(f"file {number}", number, number)

    def change(self) -> None:
        self.write("new", 5, 100)
        self.write("file 0", 7, 101)  # its first version may never have been seen
        (self.root / "file 3").rename(self.root / "moved")


def crash(inbox: Inbox, **options: Any) -> CrashReport:
    return crash_everywhere_sync(
        lambda: FolderTrigger(str(inbox.root), **options),
        source=inbox.begin,
        between=inbox.change,
        ordered=False,
        identify=lambda payload: (payload["path"], payload["size"]),
        expected=[{"path": path, "size": size} for path, size in NOW],
        optional=[{"path": path, "size": size} for path, size in (("file 0", 0), ("file 3", 3))],
    )


NOW = [("file 0", 7), ("file 1", 1), ("file 2", 2), ("moved", 3), ("new", 5)]


@pytest.mark.parametrize("once", [True, False])
@pytest.mark.parametrize(("settle", "interval"), [(0.0, 1.0), (3600.0, 600.0)])
def test_every_version_that_stays_is_told_once(tmp_path: Path, once: bool, settle: float, interval: float) -> None:
    report = crash(Inbox(tmp_path / "inbox"), once=once, settle=settle, interval=interval)
    report.check()
    assert len(report.points) > 20


class Careless(FolderTrigger):
    """Wrong: without what keeps a version from being told again."""

    def _event(self, version: Any) -> Any:
        event = super()._event(version)
        return type(event)(event.payload)


def test_the_kit_would_see_a_folder_watcher_that_doubles(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "inbox")
    report = crash_everywhere_sync(
        lambda: Careless(str(inbox.root), once=True, settle=0.0, interval=1.0), source=inbox.begin, ordered=False
    )
    assert len(report.doubled) == 4


def test_new_only_begins_once_its_list_is_stored_and_loses_nothing_from_then_on(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "inbox")
    changes = [{"path": path, "size": size} for path, size in (("file 0", 7), ("moved", 3), ("new", 5))]
    report = crash_everywhere_sync(
        lambda: FolderTrigger(str(inbox.root), new_only=True, once=True, settle=0.0),
        source=inbox.begin,
        between=inbox.change,
        ordered=False,
        identify=lambda payload: (payload["path"], payload["size"]),
        expected=[],
        optional=changes,
    )
    report.check()  # nothing that was there is told, and nothing twice
    assert "a write of 'files/baseline' by itself: not yet made" in "\n".join(map(str, report.points))
