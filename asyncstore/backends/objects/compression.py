"""Compression by the names that fsspec gives them, in pieces."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import IO, Any, cast

from ...errors import ConfigurationError, StoreCorruptError

__all__ = ["check_compression", "compressed", "decompressing"]

_OPTION = "[common.io] state_store_objectstorage_compression"
_READ = 256 * 1024


def _codecs() -> dict[str | None, Callable[..., IO[bytes]]]:
    # Untyped; and it takes a while to import.
    return cast("dict[str | None, Callable[..., IO[bytes]]]", import_module("fsspec.compression").compr)


def check_compression(name: str | None) -> None:
    """Refuse a compression that cannot be used here.

    :raises ConfigurationError: fsspec does not know it, or its package is not installed.
    """
    if name is None:
        return
    known = sorted(str(each) for each in _codecs() if each not in {None, "zip"})
    if name not in known:
        raise ConfigurationError(
            f"{_OPTION} = {name!r}: allowed is what fsspec knows and is installed here: {', '.join(known)}"
        )
    if b"".join(_pieces_read(io.BytesIO(b"".join(compressed([b"try"], name))), name)) != b"try":
        raise ConfigurationError(f"{_OPTION} = {name!r}: what it compresses it does not give back")


class _Sink(io.RawIOBase):
    """Collect what is written, to be taken piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._length = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._length

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        self._length += len(piece)
        return len(piece)

    def take(self) -> bytes:
        piece = b"".join(self._pieces)
        self._pieces.clear()
        return piece

    def close(self) -> None:
        """Stay open: what compresses closes it before the rest is taken."""


def compressed(pieces: Iterable[bytes], name: str | None) -> Iterator[bytes]:
    """Compress pieces as they come.

    :param name: the compression; None for none.
    """
    if name is None:
        yield from pieces
        return
    sink = _Sink()
    with _codecs()[name](sink, mode="wb") as file:
        for piece in pieces:
            file.write(piece)
            if done := sink.take():
                yield done
    if done := sink.take():
        yield done


def decompressing(file: IO[bytes], name: str | None) -> IO[bytes]:
    """Give a file that decompresses another one.

    :param name: the compression; None for none.
    :raises StoreCorruptError: it is not known here.
    """
    if name is None:
        return file
    codec = _codecs().get(name)
    if codec is None:
        raise StoreCorruptError(f"the object is compressed with {name!r}; install the package that fsspec needs for it")
    return codec(file, mode="rb")


def _pieces_read(file: IO[bytes], name: str) -> Iterator[bytes]:
    opened = decompressing(file, name)
    while piece := opened.read(_READ):
        yield piece
