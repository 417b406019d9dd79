"""Find every complete file version below a folder, again and again, at little cost.

The rules
=========
A *file version* is (path relative to the root as bytes, size, mtime_ns) of a regular file, reached directly
or through a symbolic link to it. It is reported once, whatever its date. It is *complete* when size and
mtime_ns were the same at two looks at least ``settle`` seconds apart by the caller's monotonic clock; no file
system's clock is trusted. Links to directories are never followed. One version is remembered per path, the
last: a file put back to an earlier version is reported again, and so is one that was `gone` in between.

The cost
========
A *full* look stats every file. It comes again when ``factor`` times as long as it took has passed, so that
full looks use at most 1/``factor`` of a core. In between, a *cheap* look stats only the known directories and
the unsettled files; a directory whose stamp changed is listed again, and only names never seen before are
stat'ed there. So in a big folder a new file is found at the next look, and one changed or replaced in place
at the next full look. Cheap looks that find nothing are paced in the same way. In a small folder every look
is full.
"""
# ruff: noqa: PTH116 -- names are bytes here, for which there is no pathlib

from __future__ import annotations

import errno
import fnmatch
import heapq
import math
import operator
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["FileVersion", "FolderScanner", "Look"]

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_MAX_PROBLEMS = 100
# A directory changed again within the granularity of its file system's time keeps its stamp (git's "racy"
# index has the same trouble). The coarsest in use is FAT's two seconds.
_RACY_SECONDS = 2.0
# So many unsettled files are stat'ed at each look although their time has not come: changes show earlier.
_EARLY_STATS = 1000
_SORT_RUN = 2000

_Version = tuple[int, int]
_Stamp = tuple[int, ...]
# A directory as it was listed: its stamp, since when it has it, and whether the listing is final.
_Listed = tuple[_Stamp, float, bool]
_UNLISTED: _Listed = ((), 0.0, False)


@dataclass(frozen=True, slots=True)
class FileVersion:
    """Tell one version of a file from every other: its path relative to the root, bytes, and nanoseconds."""

    path: bytes
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Look:
    """Hold what one look found.

    :param complete: file versions not reported before, ordered by (mtime_ns, path)
    :param gone: paths known before and not there any more, sorted; only a full look finds them
    :param pending: number of files seen whose version has not settled
    :param root_problem: why the root could not be read; nothing was forgotten then
    :param problems: what this look could not read below the root, as (path, error), the first hundred
    :param next_at: the time, on the clock of ``now``, when another look is worth it
    """

    complete: list[FileVersion]
    gone: list[bytes]
    pending: int
    root_problem: OSError | None
    problems: list[tuple[bytes, str]]
    next_at: float


@dataclass(slots=True)
class _Findings:
    """What one look has met so far; kept apart so that a look that is interrupted loses no version."""

    now: float
    full: bool
    seen: set[bytes] = field(default_factory=set[bytes])
    fresh: dict[bytes, _Version] = field(default_factory=dict[bytes, _Version])
    complete: dict[bytes, _Version] = field(default_factory=dict[bytes, _Version])
    listed: set[bytes] = field(default_factory=set[bytes])
    unreadable: set[bytes] = field(default_factory=set[bytes])
    problems: list[tuple[bytes, str]] = field(default_factory=list[tuple[bytes, str]])

    def note(self, path: bytes, error: OSError) -> None:
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append((path, str(error)))


class FolderScanner:
    """Find every complete file version below a folder once; synchronous, for one thread at a time.

    Constructing it does not touch the file system.

    :param root: the folder; it need not exist yet, and may be a symbolic link
    :param pattern: a glob as `fnmatch.fnmatchcase` has it, matched with the file's name, or with its path
        relative to the root if the pattern contains a ``/``
    :param recursive: also look into subdirectories, those on other devices included
    :param created_only: report only the first version ever of each path. No path is forgotten then, so
        `Look.gone` stays empty and memory grows with the number of different paths.
    :param settle: seconds between two looks that must agree on a version; 0 asks for one look only
    :param interval: seconds between looks
    :param exclude: absolute paths of files or directories that are neither reported nor entered
    :param known: versions recorded before a restart as (path, size, mtime_ns), one for each path
    :param factor: how many times the duration of a look must pass before an equally costly one
    :param timer: measures durations, in seconds
    :raises ValueError: if a number is out of range, an excluded path is relative, or the root is excluded
    """

    def __init__(
        self,
        root: Path,
        *,
        pattern: str = "*",
        recursive: bool = False,
        created_only: bool = False,
        settle: float = 1.0,
        interval: float = 1.0,
        exclude: Iterable[Path] = (),
        known: Iterable[tuple[bytes, int, int]] = (),
        factor: float = 50.0,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._exclude = tuple(exclude)
        _check(settle, interval, factor, root, self._exclude)
        self._root = os.fsencode(root)
        self._base = os.path.join(self._root, b"")  # noqa: PTH118 -- bytes
        self._excluded: frozenset[bytes] = frozenset()
        if not pattern or pattern.startswith("/"):
            raise ValueError(f"pattern is a glob of a name, or of a path below the folder, not {pattern!r}")
        self._match = None if pattern == "*" else re.compile(fnmatch.translate(pattern)).match
        self._match_path = "/" in pattern
        self._recursive = recursive
        self._created_only = created_only
        self._settle = settle
        self._interval = interval
        self._factor = factor
        self._timer = timer
        self._known: dict[bytes, _Version] = {path: (size, mtime_ns) for path, size, mtime_ns in known}
        # In the order of their due times: a path that changes goes to the end.
        self._pending: dict[bytes, tuple[_Version, float]] = {}
        self._directories: dict[bytes, _Listed] = {}
        self._began = 0.0
        self._full_at = -math.inf
        self._quiet_took = math.inf
        self._pace = interval

    def __repr__(self) -> str:
        counts = f"{len(self._known)} known, {len(self._pending)} pending"
        return f"<FolderScanner {os.fsdecode(self._root)!r}: {counts}>"

    def look(self, now: float) -> Look:
        """Look at the folder once, and take what is returned as reported.

        It may be called earlier than `Look.next_at`. What cannot be read is told in the result; any other
        exception leaves the versions of this look to a later one.

        :param now: monotonic time in seconds, as close as possible to the call
        :return: what is new, what is gone, and when to look again
        """
        self._began = self._timer()
        findings = _Findings(now, now >= self._full_at)
        if findings.full:
            self._excluded = _below(self._root, self._exclude)
        try:
            subdirectories = self._enter(findings, b"")
        except OSError as error:
            # Nothing is forgotten, nothing remembered; the next look is full, in case the root is back.
            self._full_at = now
            return Look([], [], len(self._pending), error.with_traceback(None), [], now + self._interval)
        waiting = len(self._pending)
        self._walk(findings, subdirectories)
        if not findings.full:
            self._stat_pending(findings)
        gone = self._gone(findings) if findings.full and not self._created_only else []
        complete = _in_order(FileVersion(path, *version) for path, version in findings.complete.items())
        self._remember(findings, gone)
        elapsed = self._timer() - self._began
        if findings.full:
            self._full_at = now + max(self._interval, elapsed * self._factor)
        elif not findings.listed and not waiting:
            # The shorter of the last two, because one of them may have waited for a disk.
            self._pace = max(self._interval, min(elapsed, self._quiet_took) * self._factor)
            self._quiet_took = elapsed
        return Look(complete, gone, len(self._pending), None, findings.problems, self._next_at(now))

    def _next_at(self, now: float) -> float:
        next_at = min(now + self._pace, self._full_at)
        if self._pending:
            _, due = next(iter(self._pending.values()))
            next_at = min(next_at, max(due, now + self._interval / 20))
        return next_at

    # -- reading the file system

    def _walk(self, findings: _Findings, stack: list[bytes]) -> None:
        """Enter the given directories and all below them, and at a cheap look every known one."""
        if not findings.full:
            # Parents come first in the dictionary, so also here, where they are taken from the end.
            stack = [*(directory for directory in reversed(self._directories) if directory), *stack]
        while stack:
            directory = stack.pop()
            try:
                stack.extend(self._enter(findings, directory))
            except OSError as error:
                if error.errno in _ABSENT:
                    self._directories.pop(directory, None)
                    continue
                findings.note(directory, error)
                findings.unreadable.add(directory)
                self._directories[directory] = _UNLISTED
        if findings.full:
            keep = findings.listed | findings.unreadable
            self._directories = {path: listed for path, listed in self._directories.items() if path in keep}

    def _enter(self, findings: _Findings, directory: bytes) -> list[bytes]:
        """List a directory unless that can be spared; give the subdirectories to enter next."""
        where = self._base + directory if directory else self._root
        status = os.stat(where, follow_symlinks=not directory)
        # A parent that has become a link may lead to a place with the same names.
        orphan = directory and directory.rpartition(b"/")[0] not in self._directories
        if directory and (orphan or not stat.S_ISDIR(status.st_mode)):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), where)
        stamp = _stamp(status)
        last, since, final = self._directories.get(directory, _UNLISTED)
        if last != stamp:
            since = findings.now + self._timer() - self._began
        elif final and not findings.full:
            return []
        subdirectories = self._list(findings, where, directory + b"/" if directory else b"")
        findings.listed.add(directory)
        # A change that left the stamp as it is came before this listing if the listing came late enough.
        self._directories[directory] = (stamp, since, findings.now >= since + _RACY_SECONDS)
        return subdirectories

    def _list(self, findings: _Findings, where: bytes, prefix: bytes) -> list[bytes]:
        known, pending, full = self._known, self._pending, findings.full
        subdirectories: list[bytes] = []
        with os.scandir(where) as entries:
            for entry in entries:
                path = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    wanted = self._recursive and path not in self._excluded
                    if wanted and (full or path not in self._directories):
                        subdirectories.append(path)
                elif full or (path not in known and path not in pending):
                    self._stat_entry(findings, path, entry)
        return subdirectories

    def _stat_entry(self, findings: _Findings, path: bytes, entry: os.DirEntry[bytes]) -> None:
        if path in self._excluded:
            return
        # Matched as text: a `?` stands for a character, not for a byte of it.
        if self._match and not self._match(os.fsdecode(path if self._match_path else entry.name)):
            return
        try:
            status = entry.stat()
        except OSError as error:
            self._unknown(findings, path, error)
        else:
            self._observe(findings, path, status)

    def _stat_pending(self, findings: _Findings) -> None:
        """Stat the unsettled files whose time has come, and others as long as they are few."""
        for number, (path, (_, due)) in enumerate(list(self._pending.items())):
            if number >= _EARLY_STATS and due > findings.now:
                break
            if path.rpartition(b"/")[0] not in self._directories:
                del self._pending[path]
                continue
            try:
                status = os.stat(self._base + path)
            except OSError as error:
                self._unknown(findings, path, error)
            else:
                self._observe(findings, path, status)

    # -- deciding

    def _unknown(self, findings: _Findings, path: bytes, error: OSError) -> None:
        """Wait anew for a file that could not be stat'ed."""
        self._pending.pop(path, None)
        if error.errno not in _ABSENT:
            findings.note(path, error)

    def _observe(self, findings: _Findings, path: bytes, status: os.stat_result) -> None:
        """Compare a file as it is now with what is known of it."""
        if not stat.S_ISREG(status.st_mode):
            self._pending.pop(path, None)
            return
        if findings.full:
            findings.seen.add(path)
        version = (status.st_size, status.st_mtime_ns)
        known = self._known.get(path)
        if known == version:
            self._pending.pop(path, None)
        elif known is not None and self._created_only:
            self._known[path] = version
        elif self._settle == 0:
            findings.complete[path] = version
        else:
            pending = self._pending.get(path)
            if pending is None or pending[0] != version:
                findings.fresh[path] = version
            elif findings.now >= pending[1]:
                findings.complete[path] = version

    def _gone(self, findings: _Findings) -> list[bytes]:
        """Give the known paths that are certainly not there any more."""
        missing = [path for path in self._known if path not in findings.seen]
        if findings.unreadable:
            missing = [path for path in missing if findings.unreadable.isdisjoint(_parents(path))]
        # A listing may skip a name while its directory changes, and a file no longer watched is still there.
        missing = [path for path in missing if self._is_absent(path)]
        try:
            root = _stamp(os.stat(self._root))
        except OSError:
            return []
        # Unmounted while it was looked at? Then nothing was learnt.
        return sorted(missing) if root[:2] == self._directories[b""][0][:2] else []

    def _is_absent(self, path: bytes) -> bool:
        try:
            return not stat.S_ISREG(os.stat(self._base + path).st_mode)
        except OSError as error:
            return error.errno in _ABSENT

    def _remember(self, findings: _Findings, gone: list[bytes]) -> None:
        if findings.full:
            for path in [path for path in self._pending if path not in findings.seen]:
                del self._pending[path]
        for path, version in findings.complete.items():
            self._pending.pop(path, None)
            self._known[path] = version
        for path in gone:
            del self._known[path]
        lag = self._timer() - self._began
        # A short look counts as an instant; after a long one what it read last has been seen for less time.
        due = findings.now + self._settle + (lag if lag > self._settle / 10 else 0.0)
        for path, version in findings.fresh.items():
            self._pending.pop(path, None)
            self._pending[path] = (version, due)


def _stamp(status: os.stat_result) -> _Stamp:
    """Give what changes with a directory's entries.

    With ctime, because permissions change without mtime, and tools that copy trees set mtime back.
    """
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def _in_order(found: Iterable[FileVersion]) -> list[FileVersion]:
    """Sort in short runs: one long sort would keep every other thread waiting."""
    key, versions = operator.attrgetter("mtime_ns", "path"), list(found)
    runs = [sorted(versions[at : at + _SORT_RUN], key=key) for at in range(0, len(versions), _SORT_RUN)]
    return list(heapq.merge(*runs, key=key))


def _parents(path: bytes) -> Iterator[bytes]:
    while b"/" in path:
        path = path.rpartition(b"/")[0]
        yield path


def _check(settle: float, interval: float, factor: float, root: Path, exclude: Iterable[Path]) -> None:
    for name, value in (("settle", settle), ("interval", interval), ("factor", factor)):
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be a finite number and not negative, not {value!r}")
    if interval == 0:
        raise ValueError("interval must be more than 0 seconds")
    for path in exclude:
        if not path.is_absolute():
            raise ValueError(f"an excluded path must be absolute, not {str(path)!r}")
        if root.is_relative_to(path):
            raise ValueError(f"{str(path)!r} is excluded, and with it the whole folder {str(root)!r}")


def _below(root: bytes, paths: Iterable[Path]) -> frozenset[bytes]:
    """Give paths relative to the root, once links on the way to either are resolved."""
    top = os.path.join(os.path.realpath(root), b"")  # noqa: PTH118 -- bytes
    parts = (os.path.split(os.fsencode(path)) for path in paths)
    real = [os.path.join(os.path.realpath(folder), name) for folder, name in parts]  # noqa: PTH118 -- bytes
    return frozenset(path.removeprefix(top) for path in real if path.startswith(top))
