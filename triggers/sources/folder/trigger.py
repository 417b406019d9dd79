"""The folder watcher: one event for every complete version of a file."""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes, urlsplit

import anyio
import anyio.to_thread

from ...abc import BaseEventTrigger
from ...events import TriggerEvent
from .scanner import FileVersion, FolderScanner, Look

__all__ = ["FolderTrigger", "folder_path"]

logger = logging.getLogger("triggers")

_CHUNK = 1000


class FolderTrigger(BaseEventTrigger):
    """Yield one event for every complete version of a file: its path, size and modification time.

    A file is complete when two looks at least `settle` seconds apart find it with the same size and modification
    time; a program that pauses for longer while it writes should write under a name that `pattern` does not match,
    and rename. The event's payload is `{"path", "size", "mtime_ns", "modified"}`, the path relative to the folder; a
    path that is not UTF-8 is percent-encoded, and `"path_encoding": "percent"` says so. Which versions were
    recorded is kept in the asset's state, one key per file, committed with each event.

    :param folder: a path, or a `file://` URI (which can name a path that is not UTF-8).
    :param pattern: a glob for the file's name, or for the relative path where it holds a `/`.
    :param recursive: look into subfolders; links to folders are not followed.
    :param created_only: only the first version of each path.
    :param new_only: not those that are there when the watcher first begins: when its list of them is stored, once and
        for all. Killed before that it has not begun yet, and what came in between is there when it does.
    :param settle: seconds between the two looks; 0 takes a file at first sight.
    :param interval: seconds between looks; a large folder is looked through less often.
    :param exclude: absolute paths that are never reported nor entered.
    :param memory: under which prefix of the asset's state the versions are kept; two watchers of one asset need two.
    :param once: return when every file that is there has been recorded.
    :raises ValueError: an argument is refused.
    """

    def __init__(
        self,
        folder: str,
        *,
        pattern: str = "*",
        recursive: bool = False,
        created_only: bool = False,
        new_only: bool = False,
        settle: float = 1.0,
        interval: float = 1.0,
        exclude: Sequence[str] = (),
        memory: str = "files",
        once: bool = False,
    ) -> None:
        self.folder = folder_path(folder)
        self._created_only = created_only
        self._new_only = new_only
        self._memory = memory
        self._once = once
        self._options: dict[str, Any] = {
            "pattern": pattern,
            "recursive": recursive,
            "interval": interval,
            "exclude": [folder_path(each) for each in exclude],
        }
        self._settle = settle
        self._scanner()  # refuses bad options before anything runs

    def _scanner(self, known: Iterable[tuple[bytes, int, int]] = ()) -> FolderScanner:
        return FolderScanner(
            self.folder, settle=self._settle, created_only=self._created_only, known=known, **self._options
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look, yield, and look again."""
        known = await self._recall()
        if self._new_only and await self.asset_state.aget(f"{self._memory}/baseline") is None:
            known = await self._take_baseline(known)
        scanner = self._scanner(known)
        problem = ""
        while True:
            look = await _look(scanner)
            problem = self._tell(look, problem)
            for version in look.complete:
                yield self._event(version)
            for path in look.gone:
                await self.asset_state.adelete(self._key(path))
            if self._once and not look.pending and not look.complete and look.root_problem is None:
                return
            await anyio.sleep(max(0.0, look.next_at - time.monotonic()))

    def _key(self, path: bytes) -> str:
        # Paths may be longer than keys.
        return f"{self._memory}/path/{blake2b(path, digest_size=20).hexdigest()}"

    def _event(self, version: FileVersion) -> TriggerEvent:
        kept = _describe(version)
        mark = b"%d %d %s" % (version.size, version.mtime_ns, version.path)
        return TriggerEvent(
            {**kept, "modified": _moment(version.mtime_ns)},
            key=f"{self._memory}:{blake2b(mark, digest_size=20).hexdigest()}",
            checkpoint={self._key(version.path): kept},
        )

    async def _recall(self) -> list[tuple[bytes, int, int]]:
        keys = await self.asset_state.akeys(f"{self._memory}/path/")
        known: list[tuple[bytes, int, int]] = []
        for start in range(0, len(keys), _CHUNK):
            for kept in (await self.asset_state.aget_many(keys[start : start + _CHUNK])).values():
                path = unquote_to_bytes(kept["path"]) if "path_encoding" in kept else kept["path"].encode()
                known.append((path, kept["size"], kept["mtime_ns"]))
        return known

    async def _take_baseline(self, known: list[tuple[bytes, int, int]]) -> list[tuple[bytes, int, int]]:
        # What is there now counts as recorded; the mark comes last, so that a crash begins anew.
        scanner = FolderScanner(self.folder, settle=0, known=known, **self._options)
        look = await _look(scanner)
        if look.root_problem is not None:
            raise look.root_problem
        versions = iter(look.complete)
        while chunk := list(itertools.islice(versions, _CHUNK)):
            await self.asset_state.aset_many({self._key(each.path): _describe(each) for each in chunk})
        await self.asset_state.aset(f"{self._memory}/baseline", True)
        return await self._recall()

    def _tell(self, look: Look, before: str) -> str:
        problems = [f"{os.fsdecode(path)!r}: {text}" for path, text in look.problems]
        now = str(look.root_problem) if look.root_problem is not None else "; ".join(problems)
        if now and now != before:
            logger.warning("folder %s: %s; looking again", self.folder, now)
        elif before and not now:
            logger.info("folder %s can be read again", self.folder)
        return now


async def _look(scanner: FolderScanner) -> Look:
    # The time is taken in the thread: the wait for a free one must not count as settling.
    return await anyio.to_thread.run_sync(lambda: scanner.look(time.monotonic()), abandon_on_cancel=True)


def _describe(version: FileVersion) -> dict[str, Any]:
    facts: dict[str, Any] = {"size": version.size, "mtime_ns": version.mtime_ns}
    try:
        return {"path": version.path.decode(), **facts}
    except UnicodeDecodeError:
        return {"path": quote_from_bytes(version.path), "path_encoding": "percent", **facts}


def _moment(mtime_ns: int) -> str | None:
    try:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=mtime_ns // 1000)).isoformat()
    except OverflowError:  # some file systems keep times that no calendar has
        return None


def folder_path(text: str) -> Path:
    """Give the path of a folder.

    :param text: a path, or a `file://` URI.
    :raises ValueError: the URI names another machine.
    """
    if not text.startswith("file:"):
        return Path(text).absolute()
    parts = urlsplit(text)
    if parts.netloc not in {"", "localhost"}:
        raise ValueError(f"{text!r} names another machine; a folder is watched where it is")
    return Path(os.fsdecode(unquote_to_bytes(parts.path)))
