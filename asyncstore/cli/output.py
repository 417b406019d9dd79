"""What goes to stdout: data, one fact a line, in whatever encoding stdout has."""

from __future__ import annotations

import codecs
import json
import os
import re
import select
import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cache
from typing import TextIO

import click

from ..clock import to_microseconds
from ..consumers.records import FailedEvent
from ..records import Event, ExpiredRow

__all__ = [
    "CLOSED",
    "emit",
    "event_line",
    "expired_line",
    "failed_line",
    "finish",
    "is_abandoned",
    "is_utf8",
    "json_line",
    "pairs",
    "silence",
]

#: The exit code when whoever reads stdout has gone: what a shell gives for SIGPIPE.
CLOSED = 141

# JSON allows them raw; terminals and programs that read line by line take them for commands, line ends, or the order
# in which what follows is shown.
_UNSAFE = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_ASCII_JSON = json.JSONEncoder(separators=(",", ":"))
_NEEDS_QUOTES = re.compile(r'[\s"=\\]')


def event_line(event: Event) -> str:
    """Write an event as one line of JSON, without its end of line.

    The keys are `id`, `asset`, `watcher`, `key`, `created_at` (UTC, with microseconds, so that lines sort by it) and
    `payload`. Not escaped to ASCII, unless the encoding of stdout is another than UTF-8.

    :param event: the event.
    :return: the line.
    """
    return json_line(_facts(event))


def failed_line(failed: FailedEvent) -> str:
    """Write an event that was set aside as one line of JSON: as `event_line`, and what is known of its failures.

    :param failed: the event and its failures.
    :return: the line.
    """
    facts = {"consumer": failed.consumer, "attempts": failed.attempts, "failed_at": _moment(failed.failed_at)}
    return json_line({**_facts(failed.event), **facts, "error": failed.error})


def _facts(event: Event) -> dict[str, object]:
    return {
        "id": event.id,
        "asset": event.asset,
        "watcher": event.watcher,
        "key": event.key,
        "created_at": _moment(event.created_at),
        "payload": event.payload,
    }


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{to_microseconds(moment) % 1_000_000:06}Z"


def expired_line(row: ExpiredRow, *, with_expiry: bool = False) -> str:
    """Write an expired row of task state as one line of `name=value` pairs.

    :param row: the row.
    :param with_expiry: say since when it is expired, too.
    :return: the line.
    """
    scope = row.scope
    line = pairs(dag=scope.dag_id, run=scope.run_id, task=scope.task_id, map_index=scope.map_index, key=row.key)
    return f"{line} expired={row.expires_at:%Y-%m-%dT%H:%M:%SZ}" if with_expiry else line


def pairs(**values: str | int) -> str:
    """Write facts as `name=value`, a space between them.

    A text stands as it is where it cannot be mistaken, else as a JSON string: with spaces, quotes, `=`, backslashes
    or anything that does not print.

    :param values: the facts.
    """
    return " ".join(f"{name}={value if isinstance(value, int) else _plain(value)}" for name, value in values.items())


def emit(lines: Iterable[str]) -> None:
    """Write lines to stdout and flush it.

    :param lines: without their ends; taken one by one.
    :raises click.exceptions.Exit: the reader has gone; ends the program with `CLOSED`, without a word.
    :raises click.ClickException: stdout cannot be written, say for lack of space.
    """
    with _writing() as stream:
        for line in lines:
            try:
                stream.write(f"{line}\n")
            except UnicodeEncodeError:
                stream.write(line.encode("ascii", "backslashreplace").decode() + "\n")
        stream.flush()


def finish() -> None:
    """Flush stdout, so that what goes wrong at the end of the program is told as well.

    :raises click.exceptions.Exit: as `emit`, and so for `click.ClickException`.
    """
    with _writing() as stream:
        stream.flush()


def is_abandoned() -> bool:
    """Tell whether whoever reads stdout has gone."""
    with suppress(OSError, ValueError, AttributeError):  # no stdout, none with a descriptor, or no `poll`
        look = select.poll()
        look.register(sys.stdout.fileno(), 0)
        return any(state & (select.POLLERR | select.POLLHUP) for _, state in look.poll(0))
    return False


def silence(stream: TextIO) -> None:
    """Drop what is still in the buffer of a broken stream; the interpreter would try to write it at exit.

    :param stream: stdout or stderr.
    """
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)


@contextmanager
def _writing() -> Generator[TextIO]:
    stream: TextIO | None = sys.stdout  # None where the program was started without one
    if stream is None:
        raise click.ClickException("standard output is closed")
    try:
        yield stream
    except BrokenPipeError:
        silence(stream)
        raise click.exceptions.Exit(CLOSED) from None
    except OSError as error:
        silence(stream)
        raise click.ClickException(f"standard output cannot be written: {error.strerror or error}") from error


def json_line(value: object) -> str:
    """Write a value as one line of JSON, safe on a terminal, and in an encoding that stdout has.

    :param value: any JSON value.
    """
    text = (_JSON if is_utf8() else _ASCII_JSON).encode(value)
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _plain(text: str) -> str:
    if text.isprintable() and not _NEEDS_QUOTES.search(text) and (text.isascii() or is_utf8()):
        return text
    return json_line(text)


def is_utf8() -> bool:
    """Tell whether stdout takes every character."""
    encoding: str | None = getattr(sys.stdout, "encoding", None)
    return encoding is None or _is_utf8(encoding)


@cache
def _is_utf8(encoding: str) -> bool:
    return codecs.lookup(encoding).name == "utf-8"
