"""Where a watcher stands: the line of its own code, and what it awaits there."""

from __future__ import annotations

import gc
import inspect
import linecache
import os
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["CrashPoint", "Place", "Places"]

_HERE = Path(__file__).parents[3]
_FOLDERS = (
    *(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib")),
    *(str(_HERE / package) for package in ("asyncstore", "triggers")),
)
#: Files below these are not the watcher's.
_OTHERS = (*(folder + os.sep for folder in _FOLDERS), "<frozen")


@dataclass(frozen=True, slots=True)
class Place:
    """Name a line.

    :ivar file: the path.
    :ivar line: its number.
    :ivar code: what stands there.
    """

    file: str
    line: int
    code: str

    def __str__(self) -> str:
        return f"{Path(self.file).name}:{self.line}" + (f"  `{self.code}`" if self.code else "")


@dataclass(frozen=True, slots=True)
class CrashPoint:
    """Name a moment at which a watcher was killed, or its database failed.

    :ivar number: its place among those of one run, from 1.
    :ivar place: the line of the watcher's code; None before its `run` began, and when it was over.
    :ivar awaiting: what it awaited there.
    """

    number: int
    place: Place | None
    awaiting: str

    def __str__(self) -> str:
        return self.awaiting if self.place is None else f"{self.place}, {self.awaiting}"


class Places:
    """Find the watcher's own code among the frames of those that it calls, and that call it.

    :param kind: the class of the trigger; its file counts as the watcher's, wherever it lies.
    """

    def __init__(self, kind: type) -> None:
        try:
            self._file = inspect.getfile(kind)
        except (OSError, TypeError):
            self._file = ""

    def now(self) -> Place | None:
        """Give the innermost line of the watcher's code that is running; None where something else runs."""
        frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]  # no other way
        while frame is not None and frame.f_code.co_name != "_run_once":  # below that of the loop is the caller's test
            if self._is_own(frame):
                return _place(frame)
            frame = frame.f_back
        return None

    def suspended(self, awaitable: Any) -> tuple[Place | None, str]:
        """Give the innermost line of the watcher's code that is suspended, and what it called there.

        :param awaitable: a coroutine or generator.
        :return: None where nothing of the watcher's is part of it.
        """
        place, called = None, ""
        for frame in _frames(awaitable):
            if self._is_own(frame):
                place, called = _place(frame), ""
            elif not called:
                called = frame.f_code.co_qualname
        return place, called

    def _is_own(self, frame: FrameType) -> bool:
        file = frame.f_code.co_filename
        return file == self._file or not file.startswith(_OTHERS)


def _frames(awaitable: Any) -> Iterator[FrameType]:
    """Give the frames of what is suspended, from the outside in."""
    seen: set[int] = set()
    while awaitable is not None and id(awaitable) not in seen:
        seen.add(id(awaitable))
        for prefix, inner in (("cr", "cr_await"), ("ag", "ag_await"), ("gi", "gi_yieldfrom")):
            frame = getattr(awaitable, f"{prefix}_frame", None)
            if frame is not None:
                yield frame
                awaitable = getattr(awaitable, inner)
                break
        else:
            # What `anext` and `await` put in between tells of nothing by itself but to the garbage collector.
            held = gc.get_referents(awaitable)
            awaitable = next((each for each in held if _has_frame(each)), None)


def _has_frame(thing: object) -> bool:
    return inspect.iscoroutine(thing) or inspect.isasyncgen(thing) or inspect.isgenerator(thing)


def _place(frame: FrameType) -> Place:
    code = frame.f_code
    return Place(code.co_filename, frame.f_lineno, linecache.getline(code.co_filename, frame.f_lineno).strip())
