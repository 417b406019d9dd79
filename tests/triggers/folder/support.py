from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from triggers.sources.folder.scanner import Look

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


def still() -> float:
    return 0.0
