"""The commands that triggers adds to the `asyncstore` program."""

from __future__ import annotations

from .commands import triggerer, watch
from .fleet import triggers

__all__ = ["triggerer", "triggers", "watch"]
