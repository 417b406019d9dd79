"""How far a cleanup has come: counted exactly, shown where somebody looks."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self, final

import click

from ..records import CleanupBatch

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

__all__ = ["Progress", "StoppedError"]


class StoppedError(Exception):
    """End a cleanup between two batches."""


@final
class Progress:
    """Follow the batches of a cleanup, as its `on_batch`.

    Shows a bar on a terminal while there is more to do, or with `verbose` a line for each batch; both on stderr.

    :param verbose: lines, also where stderr is no terminal.
    :ivar done: how many rows went so far.
    """

    def __init__(self, *, verbose: bool) -> None:
        self.done = 0
        self._verbose = verbose
        self._stopping = False
        self._bar: ProgressBar[int] | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def stop(self) -> None:
        """Let the batch in hand be the last."""
        self._stopping = True

    def __call__(self, batch: CleanupBatch) -> None:
        """Take note of a batch that is committed.

        :param batch: how far the cleanup is.
        :raises StoppedError: it was asked to stop.
        """
        new, self.done = batch.done - self.done, batch.done
        if batch.objects:
            if self._verbose:
                click.echo(f"removed {len(batch.objects)} object(s)", err=True)
        elif self._verbose:
            click.echo(f"deleted {batch.done} of {batch.total}", err=True)
        else:
            self._draw(batch, new)
        if self._stopping:
            raise StoppedError

    def _draw(self, batch: CleanupBatch, new: int) -> None:
        if self._bar is None:
            if batch.done >= batch.total or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
                return
            bar = click.progressbar(length=batch.total, label="Deleting expired rows", file=sys.stderr)
            self._bar = self._open.enter_context(bar)
        self._bar.update(new)
