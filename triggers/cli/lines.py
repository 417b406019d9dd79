"""Writing lines to a stream that may be slow, without blocking the event loop."""

from __future__ import annotations

import os
from typing import IO

import anyio
import anyio.to_thread

__all__ = ["LineWriter"]

_BUFFERED = 1000


class LineWriter:
    """Write lines in order, those that wait together in one go, from a thread.

    :param stream: where to; flushed after every write.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._send, self._receive = anyio.create_memory_object_stream[str](_BUFFERED)
        #: Whoever reads the stream has gone; lines are dropped since.
        self.broken = anyio.Event()

    async def write(self, line: str) -> None:
        """Take a line; waits where too many wait to be written.

        :param line: the text, without its end of line.
        """
        if not self.broken.is_set():
            await self._send.send(line)

    def close(self) -> None:
        """Say that no line follows; `run` ends when the last one is written."""
        self._send.close()

    async def run(self) -> None:
        """Write until `close`."""
        with self._receive:
            async for line in self._receive:
                lines = [line]
                while self._receive.statistics().current_buffer_used:
                    lines.append(self._receive.receive_nowait())
                if self.broken.is_set():
                    continue
                try:
                    await anyio.to_thread.run_sync(self._put, "\n".join(lines) + "\n", abandon_on_cancel=True)
                except BrokenPipeError:
                    self.broken.set()

    def _put(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except BrokenPipeError:
            # What is left in the stream's buffer would be tried again at exit, and fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            raise
