"""Writing lines to stdout, which may be slow, without blocking the event loop."""

from __future__ import annotations

from contextlib import suppress

import anyio
import anyio.to_thread

from asyncstore.cli.output import emit

__all__ = ["LineWriter"]

_BUFFERED = 1000


class LineWriter:
    """Write lines in order, those that wait together in one go, from a thread."""

    def __init__(self) -> None:
        self._send, self._receive = anyio.create_memory_object_stream[str](_BUFFERED)

    async def write(self, line: str) -> None:
        """Take a line; waits where too many wait to be written.

        :param line: the text, without its end of line.
        """
        # Where `run` ended with an error, the program is about to end.
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await self._send.send(line)

    def close(self) -> None:
        """Say that no line follows; `run` ends when the last one is written."""
        self._send.close()

    async def run(self) -> None:
        """Write until `close`.

        :raises click.exceptions.Exit: whoever reads stdout has gone.
        :raises click.ClickException: stdout cannot be written.
        """
        with self._send, self._receive:
            async for line in self._receive:
                lines = [line]
                while self._receive.statistics().current_buffer_used:
                    lines.append(self._receive.receive_nowait())
                await anyio.to_thread.run_sync(emit, lines, abandon_on_cancel=True)
