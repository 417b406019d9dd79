"""Requests to object storage, each explained where it fails."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import AlreadyExistsError, PermissionDeniedError, UnauthenticatedError

from ...errors import ConfigurationError, StoreError, WorkerBackendError
from ...offload.hooks import in_worker_thread
from .connections import Target, hide, open_client, secrets_of

if TYPE_CHECKING:
    from obstore import ObjectMeta

__all__ = ["Missing", "Objects", "TooLarge"]

#: Bytes of a part of a large object, and parts on their way at once.
_PART = 5 * 1024 * 1024
_PARTS_AT_ONCE = 2
_READ = 1024 * 1024
_HEAD = 16 * 1024
#: Folders that are remembered to be on disk.
_MOST_SETTLED = 10_000


class Missing(Exception):
    """Say that there is no such object."""


class TooLarge(Exception):
    """Say that an object is larger than what was put there."""


class Objects:
    """Put, get, remove and list objects below a base URL.

    A put is whole or not at all, to every reader and at any time; in a folder it is on the disk when it returns.

    :param target: what the URL says.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._client = open_client(target)
        self._secrets = secrets_of(target)
        self._root = Path(target.prefix) if target.kind == "file" else None
        self._settled: set[Path] = set()

    def __str__(self) -> str:
        return str(self._target)

    @contextlib.contextmanager
    def _explained(self, what: str) -> Generator[None]:
        try:
            yield
        except (StoreError, Missing, TooLarge):
            raise
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error) or "ContainerNotFound" in str(error):
                raise self._error(what, "there is no such bucket", error) from None
            raise Missing from None
        except (PermissionDeniedError, UnauthenticatedError, PermissionError) as error:
            raise self._error(what, "access is denied", error) from None
        except (OSError, ValueError, RuntimeError, obstore.exceptions.BaseError) as error:
            meaning = "there is no such bucket" if "<Code>NoSuchBucket</Code>" in str(error) else None
            raise self._error(what, meaning, error) from None

    def _error(self, what: str, meaning: str | None, error: BaseException) -> WorkerBackendError:
        # The first lines say what happened; what follows repeats it as the client's own structures.
        said = hide(" ".join(str(error).partition("Debug source:")[0].split()), self._secrets)
        return WorkerBackendError(f"{self}: could not {what}: {f'{meaning}: ' if meaning else ''}{said[:600]}")

    async def put(self, path: str, data: bytes, *, only_new: bool = False) -> bool:
        """Put a small object.

        :param only_new: leave alone what is there.
        :return: whether it was put.
        """
        with self._explained(f"write {path}"):
            if self._root is not None:
                await in_worker_thread(lambda: self._unsettle(path))
            try:
                await obstore.put_async(self._client, path, data, mode="create" if only_new else "overwrite")
            except AlreadyExistsError:
                return False
            if self._root is not None:
                await in_worker_thread(lambda: self._settle(path))
        return True

    @property
    def is_local(self) -> bool:
        """Tell whether requests do not leave the machine, so that a thread may as well make them itself."""
        return self._target.kind in {"file", "memory"}

    def put_now(self, path: str, data: bytes) -> None:
        """Do what `put` does, in a thread."""
        with self._explained(f"write {path}"):
            self._unsettle(path)
            obstore.put(self._client, path, data)
            if self._root is not None:
                self._settle(path)

    def get_now(self, path: str, at_most: int) -> bytes:
        """Do what `get` does, in a thread."""
        with self._explained(f"read {path}"):
            found = obstore.get(self._client, path)
            _check_size(found.meta["size"], at_most)
            return bytes(found.bytes())

    def put_pieces(self, path: str, pieces: Iterable[bytes]) -> None:
        """Put a large object, part by part; to be called in a thread."""
        with self._explained(f"write {path}"):
            self._unsettle(path)
            obstore.put(
                self._client,
                path,
                _buffered(pieces),
                use_multipart=True,
                chunk_size=_PART,
                max_concurrency=_PARTS_AT_ONCE,
            )
            if self._root is not None:
                self._settle(path)

    def _unsettle(self, path: str) -> None:
        # A folder goes with its last object: what is made anew is not on the disk because the one before it was.
        folder = None if self._root is None else (self._root / path).parent
        while folder is not None and folder != self._root and not folder.exists():
            self._settled.discard(folder)
            folder = folder.parent

    def _settle(self, path: str) -> None:
        # The row must not reach the disk before what it refers to.
        assert self._root is not None  # noqa: S101 - of a folder only
        place = self._root / path
        with contextlib.suppress(FileNotFoundError):  # removed again meanwhile
            _sync(place)
            folder = place.parent
            _sync(folder)
            while folder != self._root and folder not in self._settled:
                self._settled.add(folder)
                folder = folder.parent
                _sync(folder)
        if len(self._settled) > _MOST_SETTLED:
            self._settled.clear()

    async def get(self, path: str, at_most: int | None = None) -> bytes:
        """Get an object in one piece.

        :param at_most: how many bytes it may have; None for any number.
        :raises Missing: there is none.
        :raises TooLarge: it has more; they are not read.
        """
        with self._explained(f"read {path}"):
            found = await obstore.get_async(self._client, path)
            _check_size(found.meta["size"], at_most)
            return bytes(await found.bytes_async())

    async def get_head(self, path: str) -> bytes:
        """Get the beginning of an object, which its first line is in.

        :raises Missing: there is none.
        """
        with self._explained(f"read {path}"):
            return bytes(await obstore.get_range_async(self._client, path, start=0, length=_HEAD))

    def open(self, path: str) -> io.BufferedReader:
        """Open a large object to be read piece by piece; to be called in a thread.

        :raises Missing: there is none.
        """
        with self._explained(f"read {path}"):
            found = obstore.get(self._client, path).stream(min_chunk_size=_READ)
        return io.BufferedReader(_Stream(self._steps(path, iter(found))), _READ)

    def _steps(self, path: str, chunks: Iterator[Any]) -> Iterator[memoryview]:
        with self._explained(f"read {path}"):
            for chunk in chunks:
                yield memoryview(chunk)

    async def remove(self, paths: Sequence[str]) -> None:
        """Remove objects; those that are gone already are no error."""
        for start in range(0, len(paths), 1000):
            await self._remove(list(paths[start : start + 1000]))

    async def _remove(self, paths: list[str]) -> None:
        try:
            with self._explained(f"remove {paths[0]}"):
                await obstore.delete_async(self._client, paths)
        except Missing:
            if len(paths) > 1:  # in a folder the first that is gone ends it
                for path in paths:
                    await self._remove([path])

    async def list(self, prefix: str | None = None) -> AsyncIterator[list[tuple[str, datetime]]]:
        """List objects below a folder, page by page, in no order.

        :param prefix: the folder; None for all.
        :return: of each the path and when it was written.
        """
        with contextlib.suppress(Missing):
            async for page in self.pages(prefix):
                yield [(str(each["path"]), each["last_modified"]) for each in page]

    async def pages(self, prefix: str | None = None, after: str | None = None) -> AsyncIterator[Sequence[ObjectMeta]]:
        """List objects with all that a listing tells of them, page by page.

        :param prefix: a folder; None for all.
        :param after: only those whose path is greater.
        :raises Missing: there is no such folder.
        """
        listed: Any = obstore.list(self._client, prefix, offset=after, chunk_size=1000)  # pyright: ignore[reportUnknownMemberType]
        stream: AsyncIterator[Sequence[ObjectMeta]] = listed
        while True:
            with self._explained(f"list {prefix or 'the objects'}"):
                try:
                    page = await anext(stream)
                except StopAsyncIteration:
                    return
            yield page

    def check_case(self) -> None:
        """Refuse a folder where names that differ only in case are one; to be called in a thread.

        :raises ConfigurationError: it is one.
        """
        if self._root is None:
            return
        self._root.mkdir(parents=True, exist_ok=True)
        probe = self._root / f"!case-{os.getpid()}-{id(self)}"
        try:
            probe.touch()
            same = probe.with_name(probe.name.upper()).exists()
        except OSError as error:
            raise WorkerBackendError(f"{self}: the folder cannot be written: {error}") from error
        finally:
            probe.unlink(missing_ok=True)
        if same:
            raise ConfigurationError(
                f"{self}: this file system does not tell names apart that differ only in case, as keys "
                "may; use another one"
            )


def _check_size(size: int, at_most: int | None) -> None:
    if at_most is not None and size > at_most:
        raise TooLarge(f"it has {size:,} bytes")


def _sync(place: Path) -> None:
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _buffered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    # Whole parts, so that the client need not put small pieces together.
    collected = bytearray()
    for piece in pieces:
        collected += piece
        if len(collected) >= _PART:
            yield bytes(collected)
            collected.clear()
    if collected:
        yield bytes(collected)


class _Stream(io.RawIOBase):
    """Be a file of the pieces that come."""

    def __init__(self, pieces: Iterator[memoryview]) -> None:
        super().__init__()
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = piece
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
